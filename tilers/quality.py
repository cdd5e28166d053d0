"""Quality of a patch in a few numbers; nothing is dropped because of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tilers.tissue import find_pen

COLUMNS = ("valid", "background", "focus", "dark", "pen")
"""`valid`: fraction inside the scan · `background`: fraction brighter than 220 in all colours ·
`focus`: variance of the Laplacian of luminance at 2 µm/px · `dark`: fraction with luminance below 50
(folds, pigment, dense nuclei) · `pen`: fraction in ink colours. `wsi_pipeline.store.verdicts` draws the verdict."""


def measure(patch: NDArray[np.uint8], valid: float, mpp: float) -> tuple[float, ...]:
    """The values of `COLUMNS` for one (P, P, 3) patch at `mpp` µm per pixel."""
    red, green, blue = planes = _block_means(patch, max(1, round(2.0 / mpp)))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    density = np.log(np.maximum(planes, 1) / np.float32(245)) * np.float32(-1 / np.log(10))
    return (
        valid,
        float((np.minimum(np.minimum(red, green), blue) > 220).mean()),
        float(ndimage.laplace(grey).var(dtype=np.float64)),
        float((grey < 50).mean()),
        float(find_pen(np.moveaxis(density, 0, -1)).mean()),
    )


def _block_means(patch: NDArray[np.uint8], step: int) -> NDArray[np.float32]:
    """(3, h, w) means of step × step pixels; adding rows, then strided columns, is much faster than a reduction."""
    side = patch.shape[0] // step * step
    rows = patch[:side, :side].reshape(side // step, step, side * 3)
    sums = rows[:, 0].astype(np.uint32)
    for y in range(1, step):
        sums += rows[:, y]
    planes = [sum(sums[:, 3 * x + c :: 3 * step] for x in range(step)) for c in range(3)]
    return np.array(planes, np.float32) / np.float32(step**2)
