"""Plain JPEG and PNG: one level, held in memory, of a resolution that only the user can know."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from tilers.geometry import Box
from tilers.readers.base import on_white, within

_MOST_PIXELS = 1 << 28
"""16,384 squared, 0.8 GB in memory."""
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


class NotAPicture(Exception):
    """Neither JPEG nor PNG, or one that is not read, and why."""


class PictureReader:
    """A JPEG or PNG in 8-bit grey, RGB or RGBA; the orientation and resolution that cameras write are not asked.

    Raises:
        NotAPicture: of another format, too large, or not to be decoded.
    """

    name = "picture"

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NotAPicture("not a single file")
        with path.open("rb") as file:
            head = file.read(32)
        decode = _decode_jpeg if head.startswith(_JPEG) else _decode_png if head.startswith(_PNG) else None
        if decode is None:
            raise NotAPicture("neither JPEG nor PNG")
        self._pixels = decode(path.read_bytes())
        height, width = (int(edge) for edge in self._pixels.shape[:2])
        self.size = (width, height)
        self.level_sizes: tuple[tuple[int, int], ...] = (self.size,)
        self.downsamples: tuple[float, ...] = (1.0,)
        self.bounds = Box(0, 0, width, height)
        self.mpp_xy: tuple[float, float] | None = None
        self.tiff_mpp: float | None = None
        self.objective_power: float | None = None
        self.vendor: str | None = None
        self.is_phantom = False

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        assert level == 0
        return within(self.size, (x, y, width, height), lambda x, y, w, h: self._pixels[y : y + h, x : x + w])

    def close(self) -> None:
        """Forget the pixels."""
        self._pixels = np.zeros((0, 0, 3), np.uint8)


def _decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ("CMYK", "YCCK"):
            raise NotAPicture(f"a JPEG in {colours}, not in grey or RGB")
        _check(width, height)
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=True))
    except ValueError as error:
        raise NotAPicture(f"a JPEG that does not decode ({error})") from None


def _decode_png(data: bytes) -> NDArray[np.uint8]:
    _check(*struct.unpack(">II", data[16:24]))
    try:
        pixels = imagecodecs.png_decode(data)
    except Exception as error:  # imagecodecs raises its own kinds of RuntimeError
        raise NotAPicture(f"a PNG that does not decode ({error})") from None
    if pixels.dtype != np.uint8:
        raise NotAPicture(f"a PNG of {pixels.dtype.itemsize * 8} bits per colour, not of 8")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    grey, alpha = pixels.shape[2] < 3, pixels.shape[2] % 2 == 0
    colours = np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels[..., :3]
    return on_white(np.dstack([colours, pixels[..., -1]])) if alpha else np.ascontiguousarray(colours)


def _check(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise NotAPicture(
            f"{width}×{height} pixels are more than the {_MOST_PIXELS:,} that a plain picture may have; "
            "convert it to a tiled TIFF, for example with `vips tiffsave --tile --pyramid`"
        )
