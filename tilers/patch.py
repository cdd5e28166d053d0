"""One patch: which level it is read from, and its pixels."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from tilers.geometry import WHOLE, Grid, Window, near_downsample, pick_level, window
from tilers.readers import Reader
from tilers.resample import area_average, average_of_means

_HAIR = 1e-6
"""Of a pixel: what a division may be off by."""


def patch_downsample(reader: Reader, wanted: float, tolerance: float) -> float:
    """Level-0 pixels per pixel of a patch; the same by every reader of a file (see `near_downsample`)."""
    return near_downsample(reader.downsamples[: len(reader.level_sizes)], wanted, tolerance)


def patch_level(reader: Reader, downsample: float) -> int:
    """The level that patches of such a downsample are read from.

    The coarsest of which a pixel of a patch is a whole number of pixels; of two the file's own, or what the decoder
    makes of the fewest bytes. Else what `pick_level` takes.
    """
    stored = len(reader.level_sizes)
    whole = [i for i, level in enumerate(reader.downsamples) if _whole(downsample / level) in WHOLE]
    if whole:
        return max(whole, key=lambda i: (reader.downsamples[i], i < stored, i))
    return pick_level(reader.downsamples, downsample, stored)


def _whole(ratio: float) -> int | None:
    """Pixels of a level along the edge of one of a patch; None where that is no whole number."""
    return round(ratio) if abs(ratio - round(ratio)) < _HAIR else None


def read_patch(
    reader: Reader, grid: Grid, level: int, xy: tuple[int, int], size: int
) -> tuple[NDArray[np.uint8], float]:
    """One (size, size, 3) patch and the fraction of it inside the scanned area; the rest is white.

    Raises:
        UndecodableRegion: the bytes there do not decode.
    """
    x, y = xy
    downsample = reader.downsamples[level]
    area = _area(grid, downsample, xy, size)
    pixels = reader.read(level, area.x, area.y, area.width, area.height)
    bounds = grid.bounds
    # the last pixel may lie half outside: what it is the mean of is the reader's to know
    right = ceil((bounds.x + bounds.width) / downsample - _HAIR) - area.x
    bottom = ceil((bounds.y + bounds.height) / downsample - _HAIR) - area.y
    pixels[:, max(0, right) :] = 255
    pixels[max(0, bottom) :] = 255
    inside = min(1.0, (bounds.x + bounds.width - x) / grid.step) * min(1.0, (bounds.y + bounds.height - y) / grid.step)
    average = average_of_means if level else area_average
    return average(pixels, area.crop, (size, size)), inside


def _area(grid: Grid, downsample: float, xy: tuple[int, int], size: int) -> Window:
    """Where a patch lies on a level: on whole pixels where each of its own is a whole number of them.

    What an origin was rounded to a pixel of level 0 by then is no part of a pixel to be averaged.
    """
    each = _whole(grid.step / size / downsample)
    if not each:
        return window(*xy, (grid.step, grid.step), downsample)
    edge = size * each
    corner = grid.bounds.x, grid.bounds.y
    x, y = (
        round(start / downsample) + edge * round((v - start) / grid.step) for v, start in zip(xy, corner, strict=True)
    )
    return Window(x, y, edge, edge, (0, 0, edge, edge))
