"""What a phantom version looks like, to be compared on any processor; run as a module to freeze another version.

python -m tests.workflows.frozen
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflows.phantom.drawing.cohort import PhantomCase, draw_case
from workflows.phantom.drawing.layout import lay_out
from workflows.phantom.drawing.pool import pool_specs
from workflows.phantom.drawing.slide import render
from workflows.phantom.pathology import ORGANS, VERSION

FILE = Path(__file__).with_name(f"frozen-{VERSION}.npz")
_ROWS, _COLUMNS, _STEPS = 12, 16, 100
"""Blocks of a slide, and steps per grey level in which their means and spreads are kept."""
_SIZE = {"width_mm": 2.4, "height_mm": 2.0}


def frozen_cases() -> Iterator[tuple[str, PhantomCase]]:
    """Cases of every split, every diagnosis and two resolutions, by name."""
    for seed, split in enumerate(("train", "calibration", "test", "demo")):
        yield split, draw_case(seed, split, parts=2, slides=2, mpp=1.0, **_SIZE)  # type: ignore[arg-type]
    for organ in ORGANS:
        for diagnosis in organ.diagnoses:
            name = f"{organ.name}: {diagnosis.text}"
            yield name, draw_case(11, "test", slides=1, organ=organ.name, diagnosis=diagnosis.text, mpp=1.0, **_SIZE)
    for mpp in (0.5, 0.25):
        yield f"{mpp} µm/px", draw_case(12, "test", slides=1, mpp=mpp, factors=(4,), **_SIZE)
    for contrast in (0.5, 0.0):
        yield f"contrast {contrast}", draw_case(13, "test", slides=1, contrast=contrast, mpp=1.0, **_SIZE)


def drawn() -> str:
    """What is decided before anything is painted, of cases as users draw them and of training slides."""
    cases = [draw_case(seed, split) for split in ("train", "calibration", "test", "demo") for seed in range(100, 125)]
    specs = [spec for case in cases for part in case.parts for spec in part.slides]
    return json.dumps([asdict(spec) for spec in (*specs, *pool_specs("train", 2, 2, 1))], sort_keys=True)


def looks(case: PhantomCase) -> tuple[NDArray[np.uint16], str]:
    """Means and spreads of blocks of the first slide of each part, in steps, and what is written about the case.

    Spreads, because a lesion has the light of the tissue around it.
    """
    found, told = [], []
    for part in case.parts:
        layout = lay_out(part.slides[0])
        pixels = render(part.slides[0], layout)
        high, wide = pixels.shape[0] // _ROWS, pixels.shape[1] // _COLUMNS
        blocks = pixels[: high * _ROWS, : wide * _COLUMNS].reshape(_ROWS, high, _COLUMNS, wide, 3)
        found.append(np.stack([blocks.mean((1, 3)), blocks.std((1, 3))]))
        told.append([part.text, round(float((layout.lesion > 0).mean()), 2)])
    return np.rint(np.array(found) * _STEPS).astype(np.uint16), json.dumps(told)


def freeze() -> None:
    """Write this version's file; what it holds already stays as it is."""
    known = dict(np.load(FILE)) if FILE.exists() else {}
    for name, case in frozen_cases():
        if name not in known:
            known[name], told = looks(case)
            known[f"{name}, told"] = np.array(told)
    known.setdefault("drawn", np.array(digest(drawn())))
    np.savez_compressed(FILE, **known)


def digest(text: str) -> str:
    """Of what need not be kept to be compared."""
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    freeze()
