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
    step = max(1, round(2.0 / mpp))
    small = _block_means(patch, step)
    grey = small @ np.array([0.299, 0.587, 0.114])
    density = -np.log10(np.maximum(small, 1) / 245.0).astype(np.float32)
    return (
        valid,
        float((small > 220).all(axis=2).mean()),
        float(ndimage.laplace(grey).var()),
        float((grey < 50).mean()),
        float(find_pen(density).mean()),
    )


def _block_means(patch: NDArray[np.uint8], step: int) -> NDArray[np.float64]:
    """Means of step × step pixels; adding strided views is several times faster than a reduction over short axes."""
    side = patch.shape[0] // step * step
    total = np.zeros((side // step, side // step, 3), np.uint32)
    for y in range(step):
        for x in range(step):
            total += patch[y:side:step, x:side:step]
    return total / step**2
