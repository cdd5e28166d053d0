"""Which patches of the grid hold tissue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tilers.geometry import Grid

_ROUNDING = 1e-9


def tissue_fractions(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """(rows·columns,) share of each patch that the mask covers, exact to the mask's fractional pixels.

    The mask spans the grid's bounds; what a patch covers beyond them is no tissue.
    """
    height, width = mask.shape
    integral = np.zeros((height + 1, width + 1), np.int32)
    within = integral[1:, 1:]
    within[:] = mask
    np.cumsum(within, 0, out=within)  # in place: copies would be the most that tiling a large slide takes
    np.cumsum(within, 1, out=within)
    px, py = width / grid.bounds.width * grid.step, height / grid.bounds.height * grid.step
    columns = np.clip(np.arange(grid.columns + 1) * px, 0, width)
    rows = np.clip(np.arange(grid.rows + 1) * py, 0, height)
    corner = _interpolate(_interpolate(integral, rows).T, columns).T
    area = corner[1:, 1:] - corner[:-1, 1:] - corner[1:, :-1] + corner[:-1, :-1]
    return np.asarray((area / (px * py)).ravel())


def fragments(mask: NDArray[np.bool_], grid: Grid, kept: NDArray[np.intp]) -> NDArray[np.intp]:
    """Patches that catch pieces of tissue which no kept patch touches: for each piece the patch with most of it.

    Args:
        mask: tissue over the grid's bounds.
        grid: the patches.
        kept: indices of patches that are kept anyway.
    """
    pieces, count = ndimage.label(mask)
    touched = np.unique(pieces[covered(mask.shape, grid, kept)])
    rows, columns = _owners(mask.shape, grid)
    windows = ndimage.find_objects(pieces)
    found = []
    for piece in np.setdiff1d(np.arange(1, count + 1), touched):
        down, across = windows[piece - 1]
        y, x = np.nonzero(pieces[down, across] == piece)
        found.append(int(np.bincount(rows[down][y] * grid.columns + columns[across][x]).argmax()))
    return np.unique(np.array(found, np.intp))


def fullest_of_rest(tissue: NDArray[np.float64], kept: NDArray[np.intp], most: float) -> NDArray[np.intp]:
    """As many other patches, the fullest first, as it takes to leave out at most the share `most` of all tissue.

    Args:
        tissue: (n,) share of every patch of the grid that holds tissue.
        kept: indices of patches that are kept anyway.
        most: share of the sum of `tissue`.
    """
    rest = tissue.copy()
    rest[kept] = 0
    order = np.argsort(-rest, kind="stable")
    left = rest.sum() - np.concatenate([[0], rest[order].cumsum()])
    count = int(np.argmax(left <= most * tissue.sum() + _ROUNDING))
    return np.sort(order[:count])


def covered(shape: tuple[int, ...], grid: Grid, patches: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(h, w) pixels of a mask over the grid's bounds that lie in one of `patches`."""
    chosen = np.zeros((grid.rows, grid.columns), bool)
    chosen.flat[patches] = True
    return np.asarray(chosen[np.ix_(*_owners(shape, grid))])


def _owners(shape: tuple[int, ...], grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(h,) row and (w,) column of the patch that the centres of a mask's pixels lie in."""
    y = (np.arange(shape[0]) + 0.5) * grid.bounds.height / shape[0] / grid.step
    x = (np.arange(shape[1]) + 0.5) * grid.bounds.width / shape[1] / grid.step
    return np.minimum(y.astype(int), grid.rows - 1), np.minimum(x.astype(int), grid.columns - 1)


def _interpolate(table: NDArray[Any], at: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.minimum(at.astype(int), table.shape[0] - 2)
    part = (at - low)[:, None]
    return np.asarray(table[low] * (1 - part) + table[low + 1] * part)
