"""Quality of a patch in a few numbers; nothing is dropped because of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilers.tissue import find_pen

COLUMNS = ("valid", "background", "focus", "dark", "pen")
"""`valid`: fraction inside the scan · `background`: fraction brighter than 220 in all colours ·
`focus`: variance of the Laplacian of luminance at 2 µm/px, borders apart · `dark`: fraction with luminance below 50
(folds, pigment, dense nuclei) · `pen`: fraction in ink colours, of every fourth of those pixels.
`wsi_pipeline.store.verdicts` draws the verdict."""
_STEPS_IN_16_BITS = 16
"""16 × 16 pixels of 255 add up to less than 2¹⁶."""


def measure(patch: NDArray[np.uint8], valid: float, mpp: float) -> tuple[float, ...]:
    """The values of `COLUMNS` for one (P, P, 3) patch at `mpp` µm per pixel."""
    red, green, blue = planes = _block_means(patch, max(1, round(2.0 / mpp)))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        valid,
        float((np.minimum(np.minimum(red, green), blue) > 220).mean()),
        _focus(grey),
        float((grey < 50).mean()),
        float(_pen(planes[:, ::2, ::2]).mean()),
    )


def _focus(grey: NDArray[np.float32]) -> float:
    """Variance of the Laplacian, of every pixel with four neighbours."""
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1]
    edges += grey[1:-1, :-2]
    edges += grey[1:-1, 2:]
    edges -= 4 * grey[1:-1, 1:-1]
    return float(edges.var(dtype=np.float64))


def _pen(planes: NDArray[np.float32]) -> NDArray[np.bool_]:
    density = np.log(np.maximum(planes, 1) / np.float32(245)) * np.float32(-1 / np.log(10))
    return find_pen(np.moveaxis(density, 0, -1))


def _block_means(patch: NDArray[np.uint8], step: int) -> NDArray[np.float32]:
    """(3, h, w) means of step × step pixels; adding rows, then strided columns, is much faster than a reduction."""
    side = patch.shape[0] // step * step
    rows = patch[:side, :side].reshape(side // step, step, side * 3)
    sums: NDArray[Any] = rows[:, 0].astype(np.uint16 if step <= _STEPS_IN_16_BITS else np.uint32)
    for y in range(1, step):
        sums += rows[:, y]
    planes = np.empty((3, side // step, side // step), np.float32)
    for c in range(3):
        total: NDArray[Any] = sums[:, c :: 3 * step].copy()
        for x in range(1, step):
            total += sums[:, 3 * x + c :: 3 * step]
        np.multiply(total, np.float32(1 / step**2), out=planes[c])
    return planes
