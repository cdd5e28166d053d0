"""Quality of a patch in a few numbers; nothing is dropped because of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tilers.tissue import absorbance, densities, find_pen

ALGORITHM = 2
"""Raised whenever the same pixels would give other columns, which no model reads: pixels have a number of their own."""
COLUMNS = ("valid", "background", "focus", "dark", "pen")
"""`valid`: fraction inside the scan · `background`: fraction brighter than 220 in all colours ·
`focus`: variance of the Laplacian of luminance at 2 µm/px, tenth percentile of the 16 parts of the patch that show
stained tissue and no ink, of the sharpest part where none does; patches differ in what they show, so that it says most
beside other patches of its slide ·
`dark`: fraction of squares of 16 µm that absorb more than twice as much as the slide's tissue mostly does (folds, dense
nuclei, brown pigment) ·
`pen`: fraction of such squares in ink, coloured or black, or in pigment as black as ink.
`wsi_pipeline.store.verdicts` draws the verdict."""

_FINE_UM, _CELL = 2.0, 8
"""µm of a pixel that is measured, and pixels along the edge of a square: folds are wider than its 16 µm, nuclei not."""
_PARTS = 4
"""Along an edge of the patch."""
_BRIGHT = 220
_STAINED = 0.05
"""Absorbance in any colour from which a pixel is stained."""
_STAINED_FROM, _INKED_FROM = 0.3, 0.1
"""Share of a part from which it shows tissue, and from which its sharpness is that of ink."""
_LEAST_SHARP = 0.1
_DARK_TIMES = 2.0
_USUAL, _LEAST_USUAL = 0.2, 0.08
"""Absorbance of tissue stained with H&E, mean of the colours: where none was found, and the least that counts."""
_PADDING = 2.0
"""Absorbance in every colour of pixels that no light made: exact black, beyond the scan."""
_ENOUGH = 1 << 16
"""Pixels of an overview that tell its light."""


@dataclass(frozen=True)
class Light:
    """What a slide's pixels are measured by.

    Attributes:
        density: (256, 3) absorbance of each value of each colour, against the slide's own glass.
        usual: absorbance of its tissue, median over the mean of the colours.
    """

    density: NDArray[np.float32]
    usual: float


def light_of(overview: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> Light:
    """From a slide's (H, W, 3) overview and where on it tissue is; what is not stained there, as fat, counts not."""
    every = 1 + math.isqrt(tissue.size // _ENOUGH)
    some, where = overview[::every, ::every], tissue[::every, ::every]
    density = densities(some)
    absorbed = absorbance(some[where], density)
    stained = absorbed[(absorbed > _STAINED).any(1)]
    usual = float(np.median(stained.mean(1))) if len(stained) else _USUAL
    return Light(density, max(usual, _LEAST_USUAL))


def measure(patch: Image.Image, valid: float, mpp: float, light: Light) -> tuple[float, ...]:
    """The values of `COLUMNS` for one square patch at `mpp` µm per pixel."""
    step = max(1, min(round(_FINE_UM / mpp), patch.height // _CELL))
    side = patch.height // step
    fine = patch.reduce(step, (0, 0, side * step, side * step))
    # every fourth pixel says enough of how many are bright or stained
    planes = np.ascontiguousarray(np.moveaxis(np.asarray(fine)[::2, ::2], 2, 0))
    cells = absorbance(np.asarray(fine.reduce(_CELL)), light.density)
    inked = _inked(cells)
    dark = (cells.mean(2) > _DARK_TIMES * light.usual) & ~inked & (cells.min(2) < _PADDING)
    return (
        valid,
        float((planes.min(0) > _BRIGHT).mean()),
        _focus(np.asarray(fine.convert("F")), _stained(planes, light), inked),
        float(dark.mean()),
        float(inked.mean()),
    )


def _stained(planes: NDArray[np.uint8], light: Light) -> NDArray[np.bool_]:
    bare = (light.density > _STAINED).sum(0)  # values below are stained
    return np.asarray((planes[0] < bare[0]) | (planes[1] < bare[1]) | (planes[2] < bare[2]))


def _inked(density: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Black, blue, green and red ink, also over tissue, which adds its own absorbance to theirs.

    Haematoxylin and eosin absorb green most and blue least. Red ink absorbs blue nearly as much as green and hardly any
    red; DAB absorbs blue most, melanin too, and both some red. Blood, at its densest, comes close to red ink.
    """
    red, green, blue = np.moveaxis(density, 2, 0)
    least, most = density.min(2), density.max(2)
    black = (least > 0.7) & (least > 0.7 * most) & (blue < 1.06 * green) & (least < _PADDING)
    cold = (red > 0.6) & (red > 1.12 * green)
    hot = (green > 0.9) & (blue > 0.57 * green) & (blue < 1.1 * green) & (red < 0.4 * green)
    return np.asarray(find_pen(density) | black | cold | hot)


def _focus(grey: NDArray[np.float32], stained: NDArray[np.bool_], inked: NDArray[np.bool_]) -> float:
    """Variance of the Laplacian over parts, where all four neighbours are."""
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1]
    edges += grey[1:-1, :-2]
    edges += grey[1:-1, 2:]
    edges -= 4 * grey[1:-1, 1:-1]
    mean = _by_part(edges)
    np.multiply(edges, edges, out=edges)
    variance = _by_part(edges) - mean * mean
    told = (_by_part(stained) >= _STAINED_FROM) & (_by_part(inked) < _INKED_FROM)
    return float(np.quantile(variance[told], _LEAST_SHARP) if told.any() else variance.max())


def _by_part(values: NDArray[np.float32] | NDArray[np.bool_]) -> NDArray[np.float32]:
    """Means over 4 × 4 parts, as even as the edges divide; by sums, as BLAS would start threads beside ours."""
    rows, columns = (np.arange(_PARTS) * edge // _PARTS for edge in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, 0, np.float32), columns, 1)
    sizes = np.outer(*(np.diff(first, append=edge) for first, edge in zip((rows, columns), values.shape, strict=True)))
    return np.asarray(sums / np.maximum(sizes, 1), np.float32)
