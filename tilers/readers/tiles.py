"""Compressed TIFF tiles to RGB: JPEG at full, ½, ¼ and ⅛ scale, and JPEG 2000."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

_SOI, _EOI, _APP0, _APP15, _COM = 0xD8, 0xD9, 0xE0, 0xEF, 0xFE
_SCAN = b"\xff\xda"
_LONGEST_HEAD = 1 << 16
"""Bytes of what comes before a scan that are worth keeping."""
_FRAMES = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive: what libjpeg-turbo decodes at 8 bits."""
_ALL_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class DamagedTile(Exception):
    """The bytes are not one whole tile."""


class TileCodec(Protocol):
    """Decodes the tiles of one level."""

    @property
    def scales(self) -> tuple[int, ...]:
        """1, and the whole factors by which it can decode smaller."""
        ...

    def decode(self, data: bytes, scale: int) -> Pixels:
        """(height / scale, width / scale, 3) RGB.

        Raises:
            DamagedTile: cut, flipped, of another size, or not of this codec.
        """
        ...


@dataclass(frozen=True)
class JpegTiles:
    """JPEG tiles of one size, with the tables they share.

    Attributes:
        width, height: of every tile.
        tables: the abbreviated stream with shared tables; empty without.
        ycbcr: what the TIFF says the stream holds: YCbCr, else RGB. A stream's own word is not asked, as in libtiff.
    """

    width: int
    height: int
    tables: bytes
    ycbcr: bool
    scales: tuple[int, ...]

    def decode(self, data: bytes, scale: int) -> Pixels:
        """See `TileCodec.decode`."""
        stream = self._whole(data)
        height, width = self.height // scale, self.width // scale
        try:
            pixels = simplejpeg.decode_jpeg(
                stream, "RGB", min_height=height, min_width=width, min_factor=scale, strict=True
            )
        except ValueError as error:
            raise DamagedTile(str(error)) from None
        if pixels.shape != (height, width, 3):
            raise DamagedTile(f"decodes to {pixels.shape[1]} × {pixels.shape[0]}, not {width} × {height}")
        return np.asarray(pixels)

    def _whole(self, data: bytes) -> bytes:
        """One complete stream whose colours mean what the TIFF says; checked before a decoder allocates for it."""
        scan = data.find(_SCAN)
        head = _head(data[:scan], self) if 0 <= scan < _LONGEST_HEAD else None
        if head is None:  # that one was within a segment
            scan = _segments(data)[1]
            if data[scan : scan + 2] != _SCAN or (head := _head.__wrapped__(data[:scan], self)) is None:
                raise DamagedTile("holds no scan of a JPEG")
        return head + data[scan:]

    def check_frame(self, marker: int, segment: bytes) -> None:
        """Refuse a frame that is not one tile.

        Raises:
            DamagedTile: it is not.
        """
        if marker not in _FRAMES or len(segment) < 10:
            raise DamagedTile(f"JPEG of kind {marker:#x}")
        precision, height, width, components = struct.unpack(">BHHB", segment[4:10])
        if (precision, height, width, components) != (8, self.height, self.width, 3):
            raise DamagedTile(f"is {width} × {height}, {components} × {precision} bit; tiles here are "
                              f"{self.width} × {self.height}, 3 × 8 bit")  # fmt: skip


@lru_cache(maxsize=16)  # the tiles of a level mostly begin alike
def _head(data: bytes, tiles: JpegTiles) -> bytes | None:
    """What comes before the scan, with the tables that tiles share; None where `data` ends within a segment."""
    segments, end = _segments(data)
    if end > len(data) or data[end:].strip(b"\xff"):
        return None
    for marker, segment in segments:
        if marker in _ALL_FRAMES:
            tiles.check_frame(marker, segment)
    adobe = b"\xff\xee" + struct.pack(">H5sHHHB", 14, b"Adobe", 100, 0, 0, tiles.ycbcr)
    shared = _segments(tiles.tables)[0] if tiles.tables else []
    return b"".join([b"\xff\xd8", adobe, *(segment for _, segment in (*shared, *segments))])


def _segments(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Marker and bytes of every segment but application data and comments, up to a scan, the end of the image or where
    no whole one follows; and where that is.

    Raises:
        DamagedTile: no JPEG.
    """
    if data[:2] != bytes((0xFF, _SOI)):
        raise DamagedTile("does not begin as a JPEG")
    segments, at = [], 2
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            raise DamagedTile("JPEG markers are broken")
        marker = data[at + 1]
        if marker == 0xFF:  # fill before a marker (ISO 10918-1, B.1.1.2)
            at += 1
            continue
        if marker in (_EOI, _SCAN[1]):
            break
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if not (_APP0 <= marker <= _APP15 or marker == _COM):
            segments.append((marker, data[at : at + length]))
        at += length
    return segments, at


_GAP = bytes(64)
"""The longest run of zeros in 315 tiles of a real slide, and in flat tiles, was 11 bytes."""


@dataclass(frozen=True)
class Jpeg2000Tiles:
    """JPEG 2000 tiles of one size; Aperio's 33003 holds YCbCr, 33005 RGB."""

    width: int
    height: int
    ycbcr: bool
    scales: tuple[int, ...] = (1,)

    def decode(self, data: bytes, scale: int) -> Pixels:
        """See `TileCodec.decode`."""
        self._check_size(data)
        self._check_whole(data)
        decode = self._decode_subsampled if _is_subsampled(data) else self._decode_full
        try:
            pixels = decode(data)
        except MemoryError:
            raise  # the machine's trouble, not the slide's
        except Exception as error:  # imagecodecs and Pillow raise their own and plain errors
            raise DamagedTile(str(error)) from None
        if pixels.shape != (self.height, self.width, 3) or pixels.dtype != np.uint8:
            raise DamagedTile(f"decodes to {pixels.dtype} {pixels.shape}")
        return pixels

    def _decode_full(self, data: bytes) -> Pixels:
        pixels = imagecodecs.jpeg2k_decode(data)
        return _from_ycbcr(pixels) if self.ycbcr else np.asarray(pixels)

    def _decode_subsampled(self, data: bytes) -> Pixels:
        """imagecodecs mixes up components of several sizes without a word; Pillow repeats pixels, as OpenSlide."""
        if not self.ycbcr:
            raise DamagedTile("has components of several sizes, which RGB has not")
        return np.asarray(Image.open(io.BytesIO(data), formats=["JPEG2000"]))

    def _check_whole(self, data: bytes) -> None:
        """OpenJPEG makes up what is missing: a codestream ends with its marker, and its coder leaves no gaps."""
        if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
            raise DamagedTile("is cut: no end of the JPEG 2000 codestream")
        if _GAP in data:
            raise DamagedTile(f"has a gap of {len(_GAP)} zeros")

    def _check_size(self, data: bytes) -> None:
        """The codestream's own header (ISO 15444-1, SOC and SIZ) before a decoder allocates for it."""
        if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 51:
            raise DamagedTile("does not begin as a JPEG 2000 codestream")
        right, bottom, left, top = struct.unpack(">4I", data[8:24])
        if (right - left, bottom - top) != (self.width, self.height):
            raise DamagedTile(f"is {right - left} × {bottom - top}; tiles here are {self.width} × {self.height}")
        components = int.from_bytes(data[40:42], "big")
        if components != 3 or any(depth != 7 for depth in data[42:51:3]):
            raise DamagedTile(f"has {components} components, or other than 8 bits of each; tiles here have 3 × 8 bit")


def _is_subsampled(data: bytes) -> bool:
    """Whether the components of a codestream have several sizes (ISO 15444-1, SIZ: XRsiz, YRsiz of three)."""
    return any(step != 1 for at in (43, 46, 49) for step in data[at : at + 2])


def _from_ycbcr(pixels: Pixels) -> Pixels:
    """Full-range BT.601, as JFIF defines it."""
    y, cb, cr = (pixels[..., i].astype(np.float32) for i in range(3))
    rgb = np.stack(
        [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)], -1
    )
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)
