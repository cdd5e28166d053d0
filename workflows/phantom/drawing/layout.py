"""Where tissue and lesions lie on a phantom slide: its truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workflows.phantom.drawing.tissue import FIELD_MPP, smooth_noise
from workflows.phantom.pathology import VERSION, organ_named

PATCH_UM = 768
"""Edge of the squares that extents are counted in."""
SHOWN_FROM = 0.05
"""Share of such a square that a lesion covers where the square shows it."""
_COARSE = 4


@dataclass(frozen=True)
class Focus:
    """One lesion on a slide.

    Attributes:
        diagnosis: its text.
        mm: diameter.
        place: centre as fractions of width and height; None lets the seed choose within the tissue.
        seed: of place and outline.
    """

    diagnosis: str
    mm: float
    place: tuple[float, float] | None = None
    seed: int = 0


@dataclass(frozen=True)
class SlideSpec:
    """Everything that determines a phantom slide, byte for byte.

    Attributes:
        seed: of all that is random on it.
        organ: its name.
        foci: lesions; none on a benign slide.
        width_mm, height_mm: the scanned area.
        contrast: how far a lesion's texture is from the benign one: 1 as drawn, 0 normal tissue drawn anew.
        distractors: benign mimics, redrawn tissue, blood, folds, ink, bubbles, dust and blur, where the seed puts them.
        mpp: µm per pixel of level 0 (1.0, 0.5, 0.25: 10X, 20X, 40X).
        shift_um: right and down by which the scan's origin differs from the layout's.
        factors: downsample of each further level.
        tile: tile edge in pixels.
        quality: JPEG quality of the file.
        layout: `svs` (Aperio header) or `tiff` (plain pyramid with resolution tags).
    """

    seed: int
    organ: str
    foci: tuple[Focus, ...] = ()
    width_mm: float = 3.8
    height_mm: float = 2.9
    contrast: float = 1.0
    distractors: bool = True
    mpp: float = 1.0
    shift_um: float = 0.0
    factors: tuple[int, ...] = (4,)
    tile: int = 256
    quality: int = 85
    layout: Literal["svs", "tiff"] = "svs"


@dataclass(frozen=True)
class Layout:
    """What lies where, as (h, w) maps at `FIELD_MPP`: the slide's truth.

    Attributes:
        tissue: whether there is any.
        lesion: number of the diagnosis within its organ; 0 where there is no lesion.
    """

    tissue: NDArray[np.bool_]
    lesion: NDArray[np.uint8]


def lay_out(spec: SlideSpec) -> Layout:
    """Where tissue and lesions lie."""
    tissue = _silhouette(spec.seed, spec.organ, _shape(spec))
    organ = organ_named(spec.organ)
    lesion = np.zeros(tissue.shape, np.uint8)
    for focus in spec.foci:
        rng = np.random.default_rng([VERSION, spec.seed, 3, focus.seed])
        number = organ.diagnoses.index(organ.diagnosis(focus.diagnosis))
        lesion[blob(rng, tissue, focus.mm, focus.place) & (lesion == 0)] = number
    return Layout(tissue, lesion * tissue)


def patches_showing(layout: Layout) -> int:
    """Squares of `PATCH_UM` that show a lesion."""
    edge = round(PATCH_UM / FIELD_MPP)
    rows, columns = (-(-n // edge) for n in layout.lesion.shape)
    padded = np.zeros((rows * edge, columns * edge), bool)
    padded[: layout.lesion.shape[0], : layout.lesion.shape[1]] = layout.lesion > 0
    share = padded.reshape(rows, edge, columns, edge).mean((1, 3))
    return int((share >= SHOWN_FROM).sum())


def blob(
    rng: np.random.Generator, tissue: NDArray[np.bool_], mm: float, place: tuple[float, float] | None
) -> NDArray[np.bool_]:
    """A ragged disc of `mm` across: around `place`, or where the tissue is deep."""
    height, width = tissue.shape
    radius = mm * 1000 / FIELD_MPP / 2
    if place is not None:
        cy, cx = place[1] * height, place[0] * width
    else:
        inner = _depth(tissue)
        eligible = np.argwhere(inner > min(radius * 0.6, inner.max() * 0.7))
        cy, cx = (eligible[rng.integers(len(eligible))] + 0.5) * _COARSE
    reach = int(radius * 1.7)
    ragged = 1 + 0.15 * smooth_noise(rng, (2 * reach + 1, 2 * reach + 1), 200)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    disc = np.hypot(y, x) < radius * ragged
    where = np.zeros(tissue.shape, bool)
    top, left = round(cy) - reach, round(cx) - reach
    rows, columns = slice(max(0, top), top + len(disc)), slice(max(0, left), left + len(disc))
    there = where[rows, columns]
    there |= disc[rows.start - top :, columns.start - left :][: there.shape[0], : there.shape[1]]
    return where


def _shape(spec: SlideSpec) -> tuple[int, int]:
    return round(spec.height_mm * 1000 / FIELD_MPP), round(spec.width_mm * 1000 / FIELD_MPP)


@lru_cache(maxsize=4)
def _silhouette(seed: int, organ: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Cores for needle biopsies, fragments for biopsies, one piece for excisions."""
    rng = np.random.default_rng([VERSION, seed, 0])
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    y, x = y / shape[0], x / shape[1]
    edge = smooth_noise(rng, shape, 220) * 0.05 + smooth_noise(rng, shape, 50) * 0.012
    tissue = np.zeros(shape, bool)
    if organ in ("Prostate", "Breast"):
        count = int(rng.integers(2, 4))
        for k in range(count):
            centre = (k + 0.5 + rng.uniform(-0.08, 0.08)) / count + 0.06 * np.sin(x * rng.uniform(1, 4) + k)
            core = np.abs(y - centre) < rng.uniform(0.3, 0.36) / count + edge * 0.5
            tissue |= core & (x > rng.uniform(0.03, 0.12)) & (x < rng.uniform(0.88, 0.97))
        return tissue
    count = 1 if organ == "Lymph node" else int(rng.integers(2, 4))
    for k in range(count):
        cx, cy = (k + 0.5) / count + rng.uniform(-0.03, 0.03), rng.uniform(0.45, 0.55)
        rx, ry = rng.uniform(0.4, 0.46) / count, rng.uniform(0.38, 0.45)
        tissue |= ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1 + edge * 6
    return tissue


def _depth(tissue: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance from the edge in pixels, of every `_COARSE`-th pixel of every `_COARSE`-th row."""
    return np.asarray(ndimage.distance_transform_edt(tissue[::_COARSE, ::_COARSE]) * _COARSE)
