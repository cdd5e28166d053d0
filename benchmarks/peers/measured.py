"""Time and memory of a peer's work, told to `tiling.py` as one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PATCH = 768


def measured(work: Callable[[Path, np.ndarray, float, Path], None]) -> None:
    """Do `work(slide, origins, mpp, out)` with what the command line names: SLIDE ORIGINS.npy MPP OUT."""
    slide, origins, mpp, out = sys.argv[1:]
    places = np.load(origins)
    Path(out).mkdir()
    before, started = read_bytes(), time.perf_counter()
    work(Path(slide), places, float(mpp), Path(out))
    seconds = time.perf_counter() - started
    print(json.dumps([len(places), seconds, peak_gib(), (read_bytes() - before) / 2**20]))


def peak_gib() -> float:
    """High-water mark of this process's memory; `ru_maxrss` would count the parent's at the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 2**20


def read_bytes() -> int:
    """What this process has read so far, from caches too."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))
