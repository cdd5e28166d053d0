"""Sheets: small scans crowded with lesions or their mimics, cut into patches in memory, for the tower alone.

A slide of the pool takes a second and shows its lesion in a few of fourteen patches, a mimic in fewer. A sheet skips
file and tiler, shows several foci of its organ side by side, and is cut at a random offset: many times the foci per
second.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workflows.phantom.contents import CONTENTS
from workflows.phantom.layout import Focus, SlideSpec, lay_out
from workflows.phantom.painting import MIMICS, paint
from workflows.phantom.pathology import ORGANS, VERSION
from workflows.phantom.pool import CELLS, draw_contrast
from workflows.phantom.seeds import Split, case_seed, slide_seed
from workflows.phantom.slide import scan_painting
from workflows.phantom.tissue import FIELD_MPP
from wsi_pipeline.models.pixels import resize

_MPP = 2.0
"""Nuclei are still three pixels wide; the model's own pixels are 7 µm."""
_EDGE_UM = 768
_MM = 2.7
_TISSUE_FROM = 0.1
_GROUP = 50


@dataclass(frozen=True)
class Crowd:
    """What sheets hold much of.

    Attributes:
        name: of their files.
        first: their first case seed within a split, behind those of the pool.
        lesions, mimics: ranges of the numbers of foci on a sheet.
    """

    name: str
    first: int
    lesions: tuple[int, int]
    mimics: tuple[int, int]


LESIONS = Crowd("lesions", 500_000, (1, 5), MIMICS)
LOOKALIKES = Crowd("mimics", 600_000, (0, 4), (2, 7))


@dataclass(frozen=True)
class Sheets:
    """Patches of sheets.

    Attributes:
        images: (n, px, px, 3) uint8.
        organs: (n,) place in `ORGANS`.
        shares: (n, CELLS, CELLS, CONTENTS) share of each cell that holds each content of the organ.
    """

    images: NDArray[np.uint8]
    organs: NDArray[np.int64]
    shares: NDArray[np.float16]


def make_sheets(root: Path, split: Split, crowd: Crowd, count: int, pixels: int, workers: int) -> Iterator[Sheets]:
    """`count` sheets of a split's seeds, a few at a time; what lies below `root` is kept."""
    root.mkdir(parents=True, exist_ok=True)
    groups = [(root, split, crowd, first, min(first + _GROUP, count), pixels) for first in range(0, count, _GROUP)]
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        yield from pool.map(_make_group, groups)


def _make_group(job: tuple[Path, Split, Crowd, int, int, int]) -> Sheets:
    root, split, crowd, first, last, pixels = job
    file = root / f"{crowd.name}-v{VERSION}-{pixels}px-{first:06d}-{last:06d}.npz"
    if not file.exists():
        made = [_cut(case_seed(crowd.first + n, split), crowd, pixels) for n in range(first, last)]
        partial = file.with_suffix(".partial.npz")
        np.savez(
            partial,
            images=np.concatenate([s.images for s in made]),
            organs=np.concatenate([s.organs for s in made]),
            shares=np.concatenate([s.shares for s in made]),
        )
        partial.rename(file)
    known = np.load(file)
    return Sheets(known["images"], known["organs"], known["shares"])


def _cut(case: int, crowd: Crowd, pixels: int) -> Sheets:
    """One sheet, in patches."""
    seed = slide_seed(case, 0, 0)
    rng = np.random.default_rng([VERSION, seed, 10])
    number = int(rng.integers(len(ORGANS)))
    organ = ORGANS[number]
    foci = tuple(
        Focus(
            organ.lesions[int(rng.integers(len(organ.lesions)))].text, round(float(rng.uniform(0.5, 1.3)), 2), None, k
        )
        for k in range(int(rng.integers(*crowd.lesions)))
    )
    spec = SlideSpec(seed, organ.name, foci, _MM, _MM, contrast=draw_contrast(rng), mpp=_MPP)
    layout = lay_out(spec)
    painting = paint(spec, layout, crowd.mimics)
    image = scan_painting(spec, painting)
    offset = rng.uniform(0, _MM * 1000 - 3 * _EDGE_UM, 2)
    images, shares = [], []
    for y in range(3):
        for x in range(3):
            top, left = offset[0] + y * _EDGE_UM, offset[1] + x * _EDGE_UM
            if _crop(layout.tissue, top, left, FIELD_MPP).mean() < _TISSUE_FROM:
                continue
            images.append(_crop(image, top, left, _MPP))
            shares.append(_cells(_crop(painting.content, top, left, FIELD_MPP)))
    small = resize(torch.from_numpy(np.stack(images)), pixels).permute(0, 2, 3, 1).numpy() if images else None
    return Sheets(
        small if small is not None else np.zeros((0, pixels, pixels, 3), np.uint8),
        np.full(len(images), number),
        np.array(shares, np.float16).reshape(len(images), CELLS, CELLS, CONTENTS),
    )


def _crop(field: NDArray[np.generic], top: float, left: float, mpp: float) -> NDArray[np.generic]:
    side, y, x = round(_EDGE_UM / mpp), round(top / mpp), round(left / mpp)
    return field[y : y + side, x : x + side]


def _cells(content: NDArray[np.generic]) -> NDArray[np.float16]:
    side = content.shape[0] // CELLS
    blocks = content[: side * CELLS, : side * CELLS].reshape(CELLS, side, CELLS, side)
    return np.stack([(blocks == k).mean((1, 3)) for k in range(CONTENTS)], -1).astype(np.float16)
