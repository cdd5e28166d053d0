"""Sheets: small scans crowded with lesions or their mimics, for the tower alone.

A slide of the pool takes a second and shows its lesion in a few of fourteen patches, a mimic in fewer. A sheet skips
file and tiler and shows several foci of its organ side by side. It is kept whole, at the resolution the tower sees, so
that patches can be cut from it anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workflows.phantom.drawing.layout import Focus, SlideSpec, lay_out
from workflows.phantom.drawing.painting import MIMICS, paint
from workflows.phantom.drawing.pool import draw_contrast
from workflows.phantom.drawing.slide import scan_painting
from workflows.phantom.drawing.tissue import FIELD_MPP
from workflows.phantom.pathology import ORGANS, VERSION
from workflows.phantom.seeds import Split, case_seed, slide_seed
from wsi_pipeline.models.pixels import resize
from wsi_pipeline.store.fingerprint import fingerprint

_MPP = 2.0
"""Nuclei are still three pixels wide; the shipped tower's own pixels are 4.6 µm."""
_MM = 2.7
_PATCHES = 3.5
"""Edge of a sheet in patches of 768 µm: a little less than `_MM`."""
_EDGE_UM = 768 * _PATCHES
GROUP = 50
"""Sheets in a file."""


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
    """Several sheets.

    Attributes:
        images: (n, side, side, 3) uint8.
        organs: (n,) place in `ORGANS`.
        content: (n, side, side) uint8, what of the organ each pixel shows (`workflows.phantom.drawing.contents`).
    """

    images: NDArray[np.uint8]
    organs: NDArray[np.int64]
    content: NDArray[np.uint8]


def make_sheets(root: Path, split: Split, crowd: Crowd, count: int, pixels: int, workers: int) -> Iterator[Path]:
    """Files of `count` sheets of a split's seeds, `GROUP` in each; what lies below `root` is kept.

    Args:
        root: folder of their files, 1.4 MB a sheet at 168 pixels.
        split, crowd, count: which of them.
        pixels: edge of a patch as the tower sees it; that of a sheet is 3.5 times as long.
        workers: processes.
    """
    root.mkdir(parents=True, exist_ok=True)
    groups = [(root, split, crowd, first, min(first + GROUP, count), pixels) for first in range(0, count, GROUP)]
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        yield from pool.map(_make_group, groups)


def read_sheets(files: Iterable[Path], count: int) -> Sheets:
    """`count` sheets in all, one after the other; in memory once."""
    joined: Sheets | None = None
    done = 0
    for some in map(_read, files):
        if joined is None:
            joined = Sheets(
                *(np.empty((count, *a.shape[1:]), a.dtype) for a in (some.images, some.organs, some.content))
            )
        rows = slice(done, done + len(some.organs))
        joined.images[rows], joined.organs[rows], joined.content[rows] = some.images, some.organs, some.content
        done += len(some.organs)
    if joined is None or done != count:
        raise ValueError(f"{done} sheets, not {count}")
    return joined


def _read(file: Path) -> Sheets:
    known = np.load(file)
    return Sheets(known["images"], known["organs"], known["content"])


def _make_group(job: tuple[Path, Split, Crowd, int, int, int]) -> Path:
    root, split, crowd, first, last, pixels = job
    known = fingerprint(phantom=VERSION, split=split, crowd=asdict(crowd), pixels=pixels)
    file = root / f"{crowd.name}-{known}-{first:06d}-{last:06d}.npz"
    if not file.exists():
        made = [
            draw_sheet(case_seed(crowd.first + n, split), crowd, round(pixels * _PATCHES)) for n in range(first, last)
        ]
        images, organs, content = zip(*made, strict=True)
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, images=np.stack(images), organs=np.array(organs), content=np.stack(content))
        partial.rename(file)
    return file


def draw_sheet(case: int, crowd: Crowd, side: int) -> tuple[NDArray[np.uint8], int, NDArray[np.uint8]]:
    """Image, place of its organ in `ORGANS`, and content of the sheet of that case seed, `side` pixels each way."""
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
    painting = paint(spec, lay_out(spec), crowd.mimics)
    edge = round(_EDGE_UM / _MPP)
    image = torch.from_numpy(scan_painting(spec, painting)[:edge, :edge])
    middles = ((np.arange(side) + 0.5) * _EDGE_UM / side / FIELD_MPP).astype(int)
    return resize(image[None], side)[0].permute(1, 2, 0).numpy(), number, painting.content[np.ix_(middles, middles)]
