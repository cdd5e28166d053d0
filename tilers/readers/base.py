"""What a reader gives: levels, allowed facts and RGB pixels on white."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tilers.geometry import Box

PHANTOM_MARKER = "wsi-pipeline phantom"
"""What the image description of a synthetic slide says; the phantom model writes on no other slides."""


_MOST_TILE_PIXELS = 1 << 26
"""8,192 squared, 0.2 GB as RGB; scanners write tiles of a hundredth of that."""


WAITS_S = (0.2, 1.0)
"""Before a stalled share is asked again."""


class TileTooLarge(Exception):
    """One tile would take more memory than a whole slide should."""


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


@runtime_checkable
class Keeping(Protocol):
    """A reader that can keep what it decodes."""

    def keep(self, level: int, folder: Path) -> None:
        """From now on decoded tiles of a level, but for glass, wait in a file in `folder` for whoever asks again; what
        there is no room for is decoded again.
        """
        ...


def check_tile(width: int, height: int) -> None:
    """Refuse tiles that nobody writes: a file of a few bytes can claim one of gigabytes.

    Raises:
        TileTooLarge: with its size.
    """
    if width * height > _MOST_TILE_PIXELS:
        raise TileTooLarge(f"tiles of {width}×{height} pixels, of which each is decoded whole")


def number(text: object) -> float | None:
    """A positive finite number, or None."""
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def within(
    size: tuple[int, int], area: tuple[int, int, int, int], read: Callable[[int, int, int, int], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """(height, width, 3) of `area` (x, y, width, height): inside `size` what `read` gives, white around it."""
    x, y, width, height = area
    out = np.full((height, width, 3), 255, np.uint8)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, size[0]), min(y + height, size[1])
    if x1 > x0 and y1 > y0:
        out[y0 - y : y1 - y, x0 - x : x1 - x] = read(x0, y0, x1 - x0, y1 - y0)
    return out


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Composite RGBA (straight alpha) on white."""
    alpha = rgba[..., 3]
    if (alpha == 255).all():
        return np.ascontiguousarray(rgba[..., :3])
    a = alpha[..., None].astype(np.uint16)
    return ((rgba[..., :3] * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)
