"""Whether patches show what the overview does: bytes flipped within a compressed tile decode to garbage, unnoticed.

Overview and patches of a slide with several levels are read from different bytes, unless one level serves both best.
Where they differ, one of them is damaged, and nobody can tell which. From the same bytes, as on a slide of one level,
both agree, whatever they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tilers.geometry import Grid
from tilers.overview import Overview
from tilers.readers import UndecodableRegion

_CELL_UM, _CELL = 32.0, 4
"""Edge of the cells whose means are compared, and the pixels of the overview that it holds at least."""
_APART = 40
"""Grey levels that means may differ by: 11 is the most on real slides of three vendors, which comes from rounding cells
to whole pixels."""
_PROBES, _FEWEST = 5, 3
"""Patches that are asked whether levels differ all over; of fewer than three none can be told from the others."""

Read = Callable[[int], tuple[NDArray[np.uint8], float]]
"""The patch at a place of the grid, and the fraction of it inside the scan; raises `UndecodableRegion`."""


class Agreement:
    """Of the patches of one slide with its overview; for several threads.

    Attributes:
        doubtful: levels differ all over, so that patches are not refused for it.
        refused: patches so far.

    Args:
        overview: of the slide.
        grid: of its patches.
        candidates: places of the grid that are read.
        read: how.
    """

    def __init__(self, overview: Overview, grid: Grid, candidates: NDArray[np.intp], read: Read):
        self._overview, self._grid, self._read = overview, grid, read
        self._image = Image.fromarray(overview.image)
        self._origins = grid.origins
        self._candidates = candidates
        self._cell = max(_CELL, _CELL_UM / overview.mpp)
        self._lock = threading.Lock()
        self._probed = self.doubtful = False
        self.refused = 0

    def refuses(self, place: int, patch: Image.Image) -> bool:
        """Whether a patch shows something else than the overview, on a slide whose levels agree elsewhere."""
        if not self._differs(place, patch):
            return False
        with self._lock:
            if not self._probed:
                self._probed, self.doubtful = True, self._differ_all_over()
            self.refused += not self.doubtful
        return not self.doubtful

    def _differ_all_over(self) -> bool:
        differ = []
        probes = {int(self._candidates[i]) for i in np.linspace(0, len(self._candidates) - 1, _PROBES).astype(int)}
        for place in probes:
            try:
                differ.append(self._differs(place, Image.fromarray(self._read(place)[0])))
            except UndecodableRegion:
                continue
        return len(probes) >= _FEWEST and sum(differ) > len(differ) / 2

    def _differs(self, place: int, patch: Image.Image) -> bool:
        left, top, right, bottom = self._box(place)
        columns, rows = round((right - left) / self._cell), round((bottom - top) / self._cell)
        if columns < 1 or rows < 1:
            return False
        size = patch.height / self._grid.step
        scale_x, scale_y = self._overview.scale
        inside = (0, 0, (right - left) * scale_x * size, (bottom - top) * scale_y * size)
        seen = self._image.resize((columns, rows), Image.Resampling.BOX, (left, top, right, bottom))
        read = patch.resize((columns, rows), Image.Resampling.BOX, inside)
        apart = np.abs(np.asarray(seen, np.int16) - np.asarray(read, np.int16)).max(2) > _APART
        return bool(apart.any() and (apart & ~self._unknown(left, top, columns, rows)).any())

    def _box(self, place: int) -> tuple[float, float, float, float]:
        """The part of a patch that the overview covers, in its pixels."""
        x, y = self._origins[place]
        height, width = self._overview.image.shape[:2]
        scale_x, scale_y = self._overview.scale
        left, top = (x - self._overview.bounds.x) / scale_x, (y - self._overview.bounds.y) / scale_y
        return left, top, min(left + self._grid.step / scale_x, width), min(top + self._grid.step / scale_y, height)

    def _unknown(self, left: float, top: float, columns: int, rows: int) -> NDArray[np.bool_]:
        """(rows, columns) cells near which the overview does not decode."""
        edge = self._cell
        first_row, first_column = (max(0, int(v - 2 * edge)) for v in (top, left))
        last_row, last_column = int(top + (rows + 2) * edge), int(left + (columns + 2) * edge)
        y, x = np.nonzero(self._overview.undecodable[first_row:last_row, first_column:last_column])
        unknown = np.zeros((rows + 4, columns + 4), bool)  # two cells more on every side
        row = np.floor((y + first_row - top) / edge).astype(int) + 2
        column = np.floor((x + first_column - left) / edge).astype(int) + 2
        inside = (row >= 0) & (row < rows + 4) & (column >= 0) & (column < columns + 4)
        unknown[row[inside], column[inside]] = True
        return np.asarray(ndimage.binary_dilation(unknown, np.ones((3, 3)))[2:-2, 2:-2])
