"""Where patches lie and which pixels they come from: pure numbers, no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UPSAMPLING_TOLERANCE = 0.05
"""A level up to 5 % coarser than the target still counts as the target."""


@dataclass(frozen=True)
class Box:
    """A rectangle in level-0 pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Grid:
    """A regular grid of patches over the scanned area.

    Attributes:
        bounds: the scanned area, level-0 pixels.
        step: edge of a patch in level-0 pixels; fractional when resolutions are.
        columns, rows: patches across and down; the last ones may reach over the edge.
    """

    bounds: Box
    step: float
    columns: int
    rows: int

    @property
    def origins(self) -> NDArray[np.int32]:
        """(rows·columns, 2) level-0 x, y of every patch, row by row."""
        xs = self.bounds.x + np.rint(np.arange(self.columns) * self.step)
        ys = self.bounds.y + np.rint(np.arange(self.rows) * self.step)
        return np.stack([np.tile(xs, self.rows), np.repeat(ys, self.columns)], axis=1).astype(np.int32)


def make_grid(bounds: Box, patch_size: int, downsample: float) -> Grid:
    """The grid that covers `bounds` with patches of `patch_size` pixels, of so many level-0 pixels' edge each."""
    step = patch_size * downsample
    return Grid(bounds, step, max(1, _cells(bounds.width, step)), max(1, _cells(bounds.height, step)))


def _cells(length: int, step: float) -> int:
    # half a level-0 pixel beyond the last whole cell is rounding, not tissue
    return math.ceil((length - 0.5) / step)


WHOLE = (1, 2, 4, 8)
"""Pixels along an edge of which a decoder, or an average, makes one without a fraction of any."""
_AVERAGED = 1.9
"""From so many means per output pixel on, their average is that of the pixels below them, 44 dB and more on H&E. With
fewer, detail within a mean is missed: 40 dB at 1.67, 37 at 1.002."""


def near_downsample(stored: Sequence[float], wanted: float, tolerance: float) -> float:
    """The downsample nearest to `wanted` at which pixels are taken as they are, or whole ones averaged.

    That is of one of the file's levels, or two, four or eight times it, within the share `tolerance` of `wanted`; the
    fewest pixels per pixel win. `wanted` itself where none is so near.

    Args:
        stored: downsamples of the file's levels.
        wanted: level-0 pixels per pixel of a patch.
        tolerance: share of it.
    """
    made = [(whole, level * whole) for level in stored for whole in WHOLE]
    near = [(whole, abs(downsample / wanted - 1), downsample) for whole, downsample in made]
    near = [found for found in near if found[1] <= tolerance]
    return min(near)[2] if near else wanted


def pick_level(downsamples: Sequence[float], wanted: float, stored: int | None = None) -> int:
    """The coarsest level that is still as fine as wanted.

    Level 0 when all are coarser; whether that is acceptable is `is_upsampling`'s question.

    Args:
        downsamples: of each level.
        wanted: downsample.
        stored: so many of the levels are the file's, which may be coarser within the upsampling tolerance. Those behind
            them are made by the decoder and are taken where what is left to average is whole, or enough to average
            well. None when all are the file's.
    """
    last = len(downsamples) if stored is None else stored
    fine = [i for i, d in enumerate(downsamples[:last]) if d <= wanted * (1 + UPSAMPLING_TOLERANCE) or i == 0]
    fine += [i for i in range(last, len(downsamples)) if _averages_well(wanted / downsamples[i])]
    return max(fine, key=lambda i: (downsamples[i], i < last, i))


def _averages_well(ratio: float) -> bool:
    return ratio >= _AVERAGED or abs(ratio - 1) < 1e-6


def is_upsampling(mpp: float, target_mpp: float) -> bool:
    """Whether reaching the target means inventing pixels."""
    return mpp > target_mpp * (1 + UPSAMPLING_TOLERANCE)


@dataclass(frozen=True)
class Window:
    """Whole pixels to read from a level, and the exact part of them that is wanted (all in level pixels)."""

    x: int
    y: int
    width: int
    height: int
    crop: tuple[float, float, float, float]
    """left, top, right, bottom of the wanted area inside the window."""


def window(x: float, y: float, size: tuple[float, float], downsample: float) -> Window:
    """The level window that covers level-0 area (x, y, width, height)."""
    left, top = x / downsample, y / downsample
    right, bottom = left + size[0] / downsample, top + size[1] / downsample
    # a thousandth of a pixel is floating point, not content
    x0, y0 = math.floor(left + 1e-3), math.floor(top + 1e-3)
    x1, y1 = math.ceil(right - 1e-3), math.ceil(bottom - 1e-3)
    crop = (max(0.0, left - x0), max(0.0, top - y0), min(right, x1) - x0, min(bottom, y1) - y0)
    return Window(x0, y0, max(1, x1 - x0), max(1, y1 - y0), crop)
