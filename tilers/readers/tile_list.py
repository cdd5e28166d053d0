"""Where the compressed tiles of a TIFF lie, and what decodes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from tilers.readers.base import check_tile
from tilers.readers.tiles import Jpeg2000Tiles, JpegTiles, TileCodec

_JPEG, _APERIO_YCBCR, _APERIO_RGB = 7, 33003, 33005
_SCALES = (1, 2, 4, 8)
_MOST_PAGES = 64


class NotDirect(Exception):
    """A file this reader leaves to others, and why."""


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of a file's level lie.

    Attributes:
        size: width and height of the level.
        tile: width and height of a tile.
        columns, rows: tiles across and down.
        offsets, counts: bytes in the file; a tile of no bytes is absent.
        codec: decodes them.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    columns: int
    rows: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    codec: TileCodec


def list_tilings(path: Path, sizes: Sequence[tuple[int, int]]) -> list[Tiling]:
    """The levels of these sizes.

    Raises:
        NotDirect: not a tiled 8-bit RGB TIFF in JPEG or JPEG 2000, or other levels.
    """
    try:
        with tifffile.TiffFile(path) as file:
            if file.is_ndpi or file.is_scn or file.is_bif or file.is_philips:
                raise NotDirect("a vendor's own TIFF")
            # levels are pages of their own, or hang below the first one (OME)
            pages = [*file.pages[:_MOST_PAGES], *(file.pages.first.pages or ())]
            by_size = {(page.imagewidth, page.imagelength): page for page in reversed(pages) if page.is_tiled}
            if missing := [size for size in sizes if size not in by_size]:
                raise NotDirect(f"not tiled at {missing[0][0]} × {missing[0][1]}")
            return [_tiling(by_size[size]) for size in sizes]
    except tifffile.TiffFileError as error:
        raise NotDirect(str(error)) from None


def _tiling(page: Any) -> Tiling:
    if (page.samplesperpixel, page.bitspersample, int(page.planarconfig)) != (3, 8, 1):
        raise NotDirect(f"{page.samplesperpixel} samples of {page.bitspersample} bits")
    width, height = page.tilewidth, page.tilelength
    check_tile(width, height)
    columns, rows = -(-page.imagewidth // width), -(-page.imagelength // height)
    if not len(page.dataoffsets) == len(page.databytecounts) == columns * rows:
        raise NotDirect("its tiles are not listed")
    return Tiling(
        (page.imagewidth, page.imagelength), (width, height), columns, rows,
        tuple(page.dataoffsets), tuple(page.databytecounts), _codec(page, width, height),
    )  # fmt: skip


def _codec(page: Any, width: int, height: int) -> TileCodec:
    compression, photometric = int(page.compression), int(page.photometric)
    if compression == _JPEG and photometric in (2, 6):
        scales = tuple(s for s in _SCALES if width % s == height % s == 0)
        return JpegTiles(width, height, page.jpegtables or b"", photometric == 6, scales)
    if compression in (_APERIO_YCBCR, _APERIO_RGB):
        return Jpeg2000Tiles(width, height, compression == _APERIO_YCBCR)
    raise NotDirect(f"compression {compression}, photometric {photometric}")
