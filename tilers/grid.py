"""Which patches of the grid hold tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilers.geometry import Grid


def tissue_fractions(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """(rows·columns,) share of each patch that the mask covers, exact to the mask's fractional pixels.

    The mask spans the grid's bounds; what a patch covers beyond them is no tissue.
    """
    height, width = mask.shape
    integral = np.zeros((height + 1, width + 1))
    integral[1:, 1:] = mask.cumsum(0).cumsum(1)
    px, py = width / grid.bounds.width * grid.step, height / grid.bounds.height * grid.step
    columns = np.clip(np.arange(grid.columns + 1) * px, 0, width)
    rows = np.clip(np.arange(grid.rows + 1) * py, 0, height)
    corner = _interpolate(_interpolate(integral, rows).T, columns).T
    area = corner[1:, 1:] - corner[:-1, 1:] - corner[1:, :-1] + corner[:-1, :-1]
    return np.asarray((area / (px * py)).ravel())


def _interpolate(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.minimum(at.astype(int), table.shape[0] - 2)
    part = (at - low)[:, None]
    return np.asarray(table[low] * (1 - part) + table[low + 1] * part)
