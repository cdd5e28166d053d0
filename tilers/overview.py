"""An overview of the whole scanned area at a few µm per pixel, read in bands so that memory stays flat."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilers.geometry import Box, pick_level, window
from tilers.readers.base import Reader, UndecodableRegion
from tilers.resample import area_average

OVERVIEW_MPP = 8.0
"""µm per pixel at which tissue is found: a cell is a pixel, a gland a dozen. Small scans get 4 or 2 for the picture."""

_GOOD_EDGE, _MAX_EDGE = 1024, 6000
_BLOCK = 256
_SMALLEST = 8
_ALIKE = 0.99
"""Downsamples of stored levels are no round numbers."""


@dataclass(frozen=True)
class Overview:
    """RGB of the scanned area, its resolution, and which pixels could not be decoded."""

    image: NDArray[np.uint8]
    undecodable: NDArray[np.bool_]
    mpp: float
    bounds: Box

    @property
    def scale(self) -> tuple[float, float]:
        """Level-0 pixels per overview pixel, x and y."""
        height, width = self.image.shape[:2]
        return self.bounds.width / width, self.bounds.height / height


def read_overview(reader: Reader, mpp: float, threads: int = 1) -> Overview:
    """Read the overview block by block from the level nearest above its resolution.

    Args:
        reader: the open slide.
        mpp: µm per pixel of level 0.
        threads: that decode and resample; they change nothing but the time.
    """
    bounds = reader.bounds
    wanted = _overview_mpp(reader, mpp)
    width = max(1, math.floor(bounds.width * mpp / wanted))
    height = max(1, math.floor(bounds.height * mpp / wanted))
    scale_x, scale_y = bounds.width / width, bounds.height / height
    level = overview_level(reader, mpp)
    # a block holds at most 2048² level pixels, so memory does not grow with the slide
    block = max(1, min(_BLOCK, math.floor(2048 * reader.downsamples[level] / max(scale_x, scale_y))))
    image = np.full((height, width, 3), 255, np.uint8)
    undecodable = np.zeros((height, width), bool)

    def read(top: int, left: int, h: int, w: int) -> None:
        area = window(
            bounds.x + left * scale_x, bounds.y + top * scale_y, (w * scale_x, h * scale_y), reader.downsamples[level]
        )
        try:
            pixels = reader.read(level, area.x, area.y, area.width, area.height)
        except UndecodableRegion:
            if max(h, w) <= _SMALLEST:
                undecodable[top : top + h, left : left + w] = True
                return
            # a bad tile must not hide its good neighbours: narrow it down
            for y, x, hh, ww in _quarters(top, left, h, w):
                read(y, x, hh, ww)
            return
        image[top : top + h, left : left + w] = area_average(pixels, area.crop, (h, w))

    blocks = [
        (top, left, min(block, height - top), min(block, width - left))
        for top in range(0, height, block)
        for left in range(0, width, block)
    ]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, *zip(*blocks, strict=True)))
    return Overview(image, undecodable, wanted, bounds)


def overview_level(reader: Reader, mpp: float) -> int:
    """The level an overview is read from: of the coarsest ones that will do a stored one, else that of fewest bytes."""
    coarsest = reader.downsamples[pick_level(reader.downsamples, _overview_mpp(reader, mpp) / mpp)]
    equal = [i for i, d in enumerate(reader.downsamples) if _ALIKE < d / coarsest <= 1]
    return max(equal, key=lambda i: (i < len(reader.level_sizes), i))


def _overview_mpp(reader: Reader, mpp: float) -> float:
    longest = max(reader.bounds.width, reader.bounds.height) * mpp
    good = next((m for m in (2.0, 4.0) if longest / m <= _GOOD_EDGE), OVERVIEW_MPP)
    return max(good, mpp, longest / _MAX_EDGE)


def _quarters(top: int, left: int, h: int, w: int) -> list[tuple[int, int, int, int]]:
    rows = [(top, -(-h // 2)), (top + -(-h // 2), h // 2)]
    columns = [(left, -(-w // 2)), (left + -(-w // 2), w // 2)]
    return [(y, x, hh, ww) for y, hh in rows for x, ww in columns if hh and ww]
