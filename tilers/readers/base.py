"""What a reader gives: levels, allowed facts and RGB pixels on white."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tilers.geometry import Box

PHANTOM_MARKER = "wsi-pipeline phantom"
"""What the image description of a synthetic slide says; the phantom model writes on no other slides."""


class UndecodableRegion(Exception):
    """The bytes of a region do not decode; the reader is still usable."""


class Reader(Protocol):
    """One open slide.

    Attributes:
        name: the reader's name in settings and reports.
        size: level-0 width and height.
        level_sizes: width and height of each level of the file.
        downsamples: of each level against level 0; what a decoder makes of them at fractions of their scale follows.
        bounds: the scanned area.
        mpp_xy: µm per pixel from the vendor's fields, x and y; None where absent.
        tiff_mpp: µm per pixel from plain TIFF resolution tags (low trust).
        objective_power: as the vendor states it.
        vendor: the format's family.
        is_phantom: whether the file says it is one of this project's synthetic slides.
    """

    name: str
    size: tuple[int, int]
    level_sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    bounds: Box
    mpp_xy: tuple[float, float] | None
    tiff_mpp: float | None
    objective_power: float | None
    vendor: str | None
    is_phantom: bool

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB from whole pixels of a level; white where nothing was scanned.

        Raises:
            UndecodableRegion: the bytes there do not decode.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def number(text: object) -> float | None:
    """A positive finite number, or None."""
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
