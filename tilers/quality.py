"""Quality of a patch in a few numbers; nothing is dropped because of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from tilers.tissue import find_pen

ALGORITHM = 2
"""Raised whenever the same pixels would give other columns, which no model reads: pixels have a number of their own."""
COLUMNS = ("valid", "background", "focus", "dark", "pen")
"""`valid`: fraction inside the scan · `background`: fraction brighter than 220 in all colours ·
`focus`: variance of the Laplacian of luminance at 2 µm/px, of the least sharp of 16 parts of the patch that show
stained tissue; as patches differ in what they show, it says most beside other patches of its slide ·
`dark`: fraction of 16 µm squares that absorb more than twice as much as the slide's tissue mostly does (folds,
pigment, dense nuclei) · `pen`: fraction of them in ink, coloured or black.
`wsi_pipeline.store.verdicts` draws the verdict."""

_FINE_UM, _CELL = 2.0, 8
"""µm of a pixel that is measured, and pixels along the edge of a square: folds are wider than its 16 µm, nuclei not."""
_PARTS = 4
"""Along an edge of the patch."""
_STAINED_BELOW = 220
_STAINED_FROM, _INKED_FROM = 0.3, 0.1
"""Share of a part from which it shows tissue, and from which its sharpness is that of ink."""
_LEAST_SHARP = 0.1
"""Quantile over those parts; the very last one may show next to nothing."""
_DARK_TIMES = 2.0
_DENSITY = np.asarray(-np.log10(np.maximum(np.arange(256), 1) / 245), np.float32)
"""Absorbance of each value of a colour, glass being about 245."""
_USUAL = 0.2
"""Absorbance of tissue stained with H&E, mean of the colours, for a slide on which none was found."""


def usual_absorbance(overview: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> float:
    """Median over the tissue on a slide's (H, W, 3) overview, mean of the colours: what patches are dark beside."""
    absorbed = _DENSITY[overview[tissue]].mean(-1)
    return float(np.median(absorbed)) if absorbed.size else _USUAL


def measure(patch: Image.Image, valid: float, mpp: float, usual: float) -> tuple[float, ...]:
    """The values of `COLUMNS` for one square patch at `mpp` µm per pixel, of a slide with that `usual_absorbance`."""
    side = patch.height // (step := max(1, round(_FINE_UM / mpp)))
    fine = patch.reduce(step, (0, 0, side * step, side * step))
    red, green, blue = fine.split()
    darkest = np.asarray(ImageChops.darker(ImageChops.darker(red, green), blue))
    cells = _DENSITY[np.asarray(fine.reduce(_CELL))]
    inked = _inked(cells)
    dark = (cells.mean(2) > _DARK_TIMES * usual) & ~inked
    return (
        valid,
        float((darkest > _STAINED_BELOW).mean()),
        _focus(np.asarray(fine.convert("F")), darkest <= _STAINED_BELOW, inked),
        float(dark.mean()),
        float(inked.mean()),
    )


def _inked(density: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Black, blue, green and red ink, also over tissue, which adds its own absorbance to theirs.

    Haematoxylin and eosin absorb green most and blue least; red ink absorbs blue nearly as much as green, and so does
    DAB, which absorbs half as much red.
    """
    red, green, blue = np.moveaxis(density, 2, 0)
    least, most = density.min(2), density.max(2)
    black = (least > 0.6) & (least > 0.7 * most)
    cold = (red > 0.6) & (red > 1.12 * green)
    hot = (green > 0.8) & (blue > 0.5 * green) & (blue < 1.1 * green) & (red < 0.4 * green)
    return np.asarray(find_pen(density) | black | cold | hot)


def _focus(grey: NDArray[np.float32], stained: NDArray[np.bool_], inked: NDArray[np.bool_]) -> float:
    """Variance of the Laplacian over parts, where all four neighbours are."""
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1]
    edges += grey[1:-1, :-2]
    edges += grey[1:-1, 2:]
    edges -= 4 * grey[1:-1, 1:-1]
    mean = _by_part(edges)
    variance = _by_part(edges * edges) - mean * mean
    told = (_by_part(stained) >= _STAINED_FROM) & (_by_part(inked) < _INKED_FROM)
    return float(np.quantile(variance[told], _LEAST_SHARP) if told.any() else variance.max())


def _by_part(values: NDArray[np.float32] | NDArray[np.bool_]) -> NDArray[np.float32]:
    """Means over 4 × 4 parts, as even as the edges divide; by sums, as BLAS would start threads beside ours."""
    rows, columns = (np.arange(_PARTS) * edge // _PARTS for edge in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, 0, np.float32), columns, 1)
    sizes = np.outer(*(np.diff(first, append=edge) for first, edge in zip((rows, columns), values.shape, strict=True)))
    return np.asarray(sums / np.maximum(sizes, 1), np.float32)
