"""Time and memory of a peer's work, told to `tiling.py` as one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PATCH, MPP = 768, 1.0


def measured(work: Callable[[Path, np.ndarray, int, Path], None]) -> None:
    """Do `work(slide, origins, step, out)` with what the command line names: SLIDE ORIGINS.npy STEP OUT."""
    slide, origins, step, out = sys.argv[1:]
    places = np.load(origins)
    Path(out).mkdir()
    before, started = _read_bytes(), time.perf_counter()
    work(Path(slide), places, int(step), Path(out))
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps([len(places), seconds, peak / 2**20, (_read_bytes() - before) / 2**20]))


def _read_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))
