"""What a phantom version looks like, to be compared on any processor; run as a module to freeze another version.

python -m tests.workflows.frozen
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from workflows.phantom.drawing import artefacts, painting
from workflows.phantom.drawing.cohort import PhantomCase, draw_case
from workflows.phantom.drawing.layout import SlideSpec, lay_out
from workflows.phantom.drawing.pool import pool_specs
from workflows.phantom.drawing.slide import render, write_slide
from workflows.phantom.drawing.tissue import NUCLEUS_AREA, NUCLEUS_HAEM, STAIN_COLOURS, draw
from workflows.phantom.measuring.reports import draw_cohort
from workflows.phantom.pathology import ORGANS, VERSION

FILE = Path(__file__).with_name(f"frozen-{VERSION}.npz")
_ROWS, _COLUMNS, _STEPS = 12, 16, 100
"""Blocks of a slide, and steps per grey level in which their means and spreads are kept."""
_SIZE = {"width_mm": 2.4, "height_mm": 2.0}
_OF_THE_CODEC = ("TileOffsets", "TileByteCounts", "JPEGTables")
"""Tags that another version of the JPEG library may change."""
_SWATCH, _FINELY = (128, 128), 1000
"""Pixels of a swatch of one thing alone, and steps per unit of stain in which it is kept."""


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


def constants() -> str:
    """What every slide is drawn with, and which parts a seed of `benchmarks/phantom.py` stands for."""
    on_glass = [(chance, name) for chance, name, _ in painting._ON_GLASS]
    stains = (STAIN_COLOURS.tolist(), NUCLEUS_HAEM, NUCLEUS_AREA)
    cohort = [asdict(spec) for case in draw_cohort(0, 5) for part in case.parts for spec in part.slides]
    return json.dumps([repr(ORGANS), artefacts.INKS, painting.MIMICS, on_glass, stains, cohort], sort_keys=True)


def swatches() -> dict[str, NDArray[np.uint16]]:
    """Means and spreads of blocks of everything that is on few slides or small parts of them, each drawn alone."""
    return {name: _blocks(field, 4, 4, _FINELY) for name, field in _alone()}


def _alone() -> Iterator[tuple[str, NDArray[np.generic]]]:
    for organ in ORGANS:
        normal = organ.benign.motif
        for lesion in organ.lesions:
            faint = normal.toward(lesion.motif, 0.5)
            for what, motif in (("faint", faint), ("mimic", lesion.mimic)):
                if motif:
                    maps = draw(np.random.default_rng(5), motif, _SWATCH).maps
                    yield f"{organ.name}: {lesion.text}, {what}", np.stack(maps, -1)
    nothing = np.zeros(_SWATCH, bool)
    yield "fold", artefacts.fold(np.random.default_rng(5), _SWATCH)
    stains = draw(np.random.default_rng(5), ORGANS[0].benign.motif, _SWATCH)
    pool, where = artefacts.blood(np.random.default_rng(6), stains, nothing)
    yield "blood", np.stack([*pool.maps, where], -1)
    for ink in artefacts.INKS:
        yield f"pen, {ink}", artefacts.pen(np.random.default_rng(7), nothing, ink)[0]
    yield "bubble", artefacts.bubble(np.random.default_rng(5), nothing)[0]
    yield "dust", artefacts.dust(np.random.default_rng(5), nothing)[0]
    yield "blur", artefacts.blur(np.random.default_rng(9), nothing)


def written() -> tuple[NDArray[np.uint16], str]:
    """Of a slide file of known pixels: blocks of every level, and all that it says of itself."""
    y, x = np.mgrid[0:600, 0:800]
    pixels = np.stack([x % 256, y % 256, (x // 3 + y // 2) % 256], -1).astype(np.uint8)
    case = draw_case(11, "test", slides=1, mpp=0.5, factors=(4,), **_SIZE)
    spec: SlideSpec = case.parts[0].slides[0]
    with tempfile.TemporaryDirectory() as folder:
        write_slide(Path(folder) / "s.svs", spec, pixels)
        with tifffile.TiffFile(Path(folder) / "s.svs") as file:
            tags = [
                {tag.name: str(tag.value) for tag in page.tags if tag.name not in _OF_THE_CODEC} for page in file.pages
            ]
            levels = [_blocks(page.asarray(), 5, 5, _STEPS) for page in file.pages]
    return np.array(levels), json.dumps(tags, sort_keys=True)


def looks(case: PhantomCase) -> tuple[NDArray[np.uint16], str]:
    """Means and spreads of blocks of the first slide of each part, in steps, and what is written about the case.

    Spreads, because a lesion has the light of the tissue around it.
    """
    found, told = [], []
    for part in case.parts:
        layout = lay_out(part.slides[0])
        pixels = render(part.slides[0], layout)
        found.append(_blocks(pixels, _ROWS, _COLUMNS, _STEPS))
        told.append([part.text, round(float((layout.lesion > 0).mean()), 2)])
    return np.array(found), json.dumps(told)


def diseased(case: PhantomCase) -> NDArray[np.bool_]:
    """Which blocks of the same slides show a lesion."""
    lesions = [lay_out(part.slides[0]).lesion > 0 for part in case.parts]
    return np.stack([_blocks(lesion, _ROWS, _COLUMNS, _STEPS)[0, ..., 0] > 0 for lesion in lesions])


def _blocks(image: NDArray[np.generic], rows: int, columns: int, steps: int) -> NDArray[np.uint16]:
    """(2, rows, columns, channels) means and spreads in steps, of (h, w) or (h, w, channels)."""
    high, wide = image.shape[0] // rows, image.shape[1] // columns
    blocks = image[: high * rows, : wide * columns].reshape(rows, high, columns, wide, -1)
    return np.rint(np.stack([blocks.mean((1, 3)), blocks.std((1, 3))]) * steps).astype(np.uint16)


def freeze() -> None:
    """Write this version's file; what it holds already stays as it is."""
    known = dict(np.load(FILE)) if FILE.exists() else {}
    for name, case in frozen_cases():
        if name not in known:
            known[name], told = looks(case)
            known[f"{name}, told"] = np.array(told)
    known.setdefault("drawn", np.array(digest(drawn())))
    known.setdefault("constants", np.array(digest(constants())))
    known = swatches() | known
    if "slide file" not in known:
        known["slide file"], told = written()
        known["slide file, told"] = np.array(told)
    np.savez_compressed(FILE, **known)


def digest(text: str) -> str:
    """Of what need not be kept to be compared."""
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    freeze()
