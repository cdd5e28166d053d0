"""Tiled TIFF and SVS without a slide library: each compressed tile is decoded once, at the scale wanted.

Levels of the file come first; behind them stand the same at ½, ¼ and ⅛, which the JPEG decoder makes in a fraction
of the time (scaled inverse DCT). What the file is (resolution, power, scanned area) is OpenSlide's or tiffslide's
word; at opening a few tiles are compared with theirs, and a slide on which pixels differ is refused.
"""

from __future__ import annotations

import errno
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tilers.readers.base import WAITS_S, Reader, UndecodableRegion
from tilers.readers.openslide import OpenSlideReader
from tilers.readers.spool import Spool
from tilers.readers.tiffslide import TiffSlideReader
from tilers.readers.tile_cache import TileCache
from tilers.readers.tile_list import NotDirect, list_tilings
from tilers.readers.tiles import DamagedTile, JpegTiles, Pixels
from wsi_pipeline.errors import SlideError

_COLOUR_STEPS = 1
"""Grey levels by which JPEG 2000 and colour transforms of two libraries may differ; JPEG does not."""
_PROBES = 4
_NEAR = 3
"""Tiles from the corner, across and down, that are compared where only the corner can be."""
_MOST_BYTES = 8
"""Per pixel of a tile: more than twice what its pixels take unpacked."""
_CACHE_BYTES = 384 << 20
"""A row of patches and the tiles it shares with the next, of a slide 100,000 pixels wide read at 1 µm/px or coarser. On
wider ones, or read finer, tiles on the border of two rows are decoded for each. Most slides take a fraction: reading
goes down the slide, and what lies well above is let go."""
_GLASS = 215
"""A tile without a darker value is glass: it decodes in no time, and few patches ask for it."""


@dataclass(frozen=True)
class Level:
    """One level of the file, or such a one at a whole fraction of its scale.

    Attributes:
        page: which of the file's levels.
        scale: 1, 2, 4 or 8.
        size: width and height in its own pixels.
    """

    page: int
    scale: int
    size: tuple[int, int]


class DirectReader:
    """A tiled TIFF or SVS.

    Attributes:
        decoded: tiles decoded so far, by level.

    Raises:
        NotDirect: left to another reader, and why.
    """

    name = "direct"

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NotDirect("not a single file")
        self._path = path
        base = _facts(path)
        try:
            self._tilings = list_tilings(path, base.level_sizes)
            self._take_facts(base)
            self._check_absent()
            self._file = os.open(path, os.O_RDONLY)
            self._file_bytes = os.fstat(self._file).st_size
            self._cache = TileCache(_CACHE_BYTES)
            self._kept: tuple[int, Spool] | None = None
            self.decoded = [0] * len(self._levels)
            try:
                self._compare(base)
            except BaseException:
                self.close()
                raise
        finally:
            base.close()

    def _take_facts(self, base: Reader) -> None:
        self.size, self.bounds = base.size, base.bounds
        self.mpp_xy, self.tiff_mpp = base.mpp_xy, base.tiff_mpp
        self.objective_power, self.vendor, self.is_phantom = base.objective_power, base.vendor, base.is_phantom
        self._levels = [Level(page, 1, t.size) for page, t in enumerate(self._tilings)]
        self._levels += [
            Level(page, scale, (-(-t.size[0] // scale), -(-t.size[1] // scale)))
            for page, t in enumerate(self._tilings)
            for scale in t.codec.scales
            if scale > 1
        ]
        self.level_sizes = base.level_sizes
        self.downsamples = tuple(base.downsamples[level.page] * level.scale for level in self._levels)

    def _check_absent(self) -> None:
        """Absent tiles are glass where nothing else can be known of them: on the only level.

        OpenSlide takes them for an encoder's bug in Aperio's files, and paints them from a finer level.
        """
        lacking = [number for number, tiling in enumerate(self._tilings) if not all(tiling.counts)]
        if lacking and len(self._tilings) > 1:
            raise NotDirect(f"tiles of level {lacking[0]} are absent, and other levels may hold what they show")

    def _compare(self, base: Reader) -> None:
        """A tile rich in bytes of every level, against another library."""
        for number in range(len(self._tilings)):
            if not any(self._same(base, number, index) for index in self._richest(number)):
                raise NotDirect(f"no tile of level {number} decodes")

    def _richest(self, number: int) -> list[int]:
        """A few tiles of a level that can be compared, rich ones first."""
        tiling = self._tilings[number]
        tiles = list(range(len(tiling.counts)))
        if not self.downsamples[number].is_integer():
            tiles = [i for i in tiles if i % tiling.columns < _NEAR and i // tiling.columns < _NEAR]
        return sorted(tiles, key=lambda index: -tiling.counts[index])[:_PROBES]

    def _same(self, base: Reader, number: int, index: int) -> bool:
        """Whether a tile has the pixels of `base`; False where it does not decode.

        Raises:
            NotDirect: other pixels.
        """
        tiling = self._tilings[number]
        x, y = (index % tiling.columns) * tiling.tile[0], (index // tiling.columns) * tiling.tile[1]
        right, bottom = min(tiling.size[0], x + tiling.tile[0]), min(tiling.size[1], y + tiling.tile[1])
        if not self.downsamples[number].is_integer():
            x, y = 0, 0  # everywhere else OpenSlide would interpolate between the level's pixels
        try:
            theirs, ours = (reader.read(number, x, y, right - x, bottom - y) for reader in (base, self))
        except UndecodableRegion:
            return False
        off = int(np.abs(theirs.astype(int) - ours).max())
        if off > (0 if isinstance(tiling.codec, JpegTiles) else _COLOUR_STEPS):
            raise NotDirect(f"pixels of level {number} differ from {base.name}'s by up to {off}")
        return True

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See `Reader.read`."""
        place = self._levels[level]
        out = np.full((height, width, 3), 255, np.uint8)
        tile_width, tile_height = self._tile_size(place)
        right, bottom = min(x + width, place.size[0]), min(y + height, place.size[1])
        tiles = self.touched(level, x, y, width, height)
        if not tiles:
            return out
        first, last = tiles[0][1], tiles[-1][1]
        with self._cache.needed(level, first - (last - first + 1)):
            for column, row in tiles:
                tile = self._cache.get((level, column, row), partial(self.decode, level, column, row))
                if tile is None:
                    continue
                left, top = column * tile_width, row * tile_height
                a, b = max(left, x, 0), min(left + tile_width, right)
                c, d = max(top, y, 0), min(top + tile_height, bottom)
                out[c - y : d - y, a - x : b - x] = tile[c - top : d - top, a - left : b - left]
        return out

    def touched(self, level: int, x: int, y: int, width: int, height: int) -> list[tuple[int, int]]:
        """Column and row of every tile that an area of a level touches, in the order of the file."""
        place = self._levels[level]
        tile_width, tile_height = self._tile_size(place)
        left, right = max(x, 0), min(x + width, place.size[0])
        top, bottom = max(y, 0), min(y + height, place.size[1])
        if left >= right or top >= bottom:
            return []
        columns = range(left // tile_width, -(-right // tile_width))
        rows = range(top // tile_height, -(-bottom // tile_height))
        return [(column, row) for row in rows for column in columns]

    def keep(self, level: int, folder: Path) -> None:
        """See `Keeping.keep`."""
        with suppress(OSError):
            self._kept = level, Spool(folder)

    def decode(self, level: int, column: int, row: int) -> Pixels | None:
        """A tile of a level; None where the file holds none.

        Raises:
            UndecodableRegion: its bytes are not one whole tile.
        """
        if self._kept is None or self._kept[0] != level:
            return self._decode(level, column, row)
        spool = self._kept[1]
        if (tile := spool.get((column, row))) is None:
            tile = self._decode(level, column, row)
            if tile is not None and tile.min() < _GLASS:
                spool.put((column, row), tile)
        return tile

    def _decode(self, level: int, column: int, row: int) -> Pixels | None:
        """From the file."""
        place = self._levels[level]
        tiling = self._tilings[place.page]
        index = row * tiling.columns + column
        offset, count = tiling.offsets[index], tiling.counts[index]
        if not count and not offset:
            return None
        # asked before reading: an offset of 64 bits may be more than the system takes for one
        if not count or offset + count > self._file_bytes:
            raise UndecodableRegion(f"tile {index} has no bytes, or lies outside the file")
        if count > _MOST_BYTES * math.prod(tiling.tile):
            raise UndecodableRegion(f"tile {index} is said to take {count:,} bytes, more than its pixels do")
        data = self._bytes(index, offset, count)
        inside = tuple(s - n * t for s, n, t in zip(tiling.size, (column, row), tiling.tile, strict=True))
        # a pixel that lies half outside would hold half of what an encoder filled the tile up with
        ragged = any(n < t and n % place.scale for n, t in zip(inside, tiling.tile, strict=True))
        try:
            pixels = tiling.codec.decode(data, 1 if ragged else place.scale)
        except DamagedTile as error:
            raise UndecodableRegion(f"tile {index} {error}") from None
        self.decoded[level] += 1
        return _averaged(pixels, inside, place.scale) if ragged else pixels

    def _bytes(self, index: int, offset: int, count: int) -> bytes:
        """Of a tile. A disk may have a bad place; a share that is gone says nothing about the slide.

        Raises:
            UndecodableRegion: the disk cannot read them, however often it is asked.
            SlideError: nothing can be read for now.
        """
        for wait in (*WAITS_S, None):
            try:
                return _read_all(self._file, offset, count)
            except OSError as error:
                if wait is not None:
                    time.sleep(wait)
                elif error.errno == errno.EIO:
                    raise UndecodableRegion(f"tile {index} cannot be read ({error.strerror})") from None
                else:
                    cause = f"cannot be read any more ({error.strerror})"
                    raise SlideError(self._path, cause, "check the disk or share, and run again") from None
        raise AssertionError("the last try returns or raises")

    def _tile_size(self, level: Level) -> tuple[int, int]:
        width, height = self._tilings[level.page].tile
        return width // level.scale, height // level.scale

    def close(self) -> None:
        """Release the file."""
        if self._kept:
            self._kept[1].close()
        os.close(self._file)


def _read_all(file: int, offset: int, count: int) -> bytes:
    """As many bytes as there are; a network file system may give fewer at a time."""
    data = os.pread(file, count, offset)
    while len(data) < count and (more := os.pread(file, count - len(data), offset + len(data))):
        data += more
    return data


def _averaged(pixels: Pixels, inside: tuple[int, ...], scale: int) -> Pixels:
    """A tile that a slide ends in, white outside of it, at a fraction of its scale."""
    pixels = pixels.copy()
    pixels[:, inside[0] :], pixels[inside[1] :] = 255, 255
    return np.asarray(Image.fromarray(pixels).reduce(scale))


def _facts(path: Path) -> Reader:
    """OpenSlide's word; tiffslide's where OpenSlide refuses, or does not see the levels below an OME's first one."""
    try:
        slide: Reader = OpenSlideReader(path)
    except Exception:  # whatever it says, the next one is asked; a refusal of both is `auto`'s to tell
        return TiffSlideReader(path)
    if slide.vendor != "generic-tiff" or len(slide.level_sizes) > 1:
        return slide
    try:
        other = TiffSlideReader(path)
    except Exception:  # what OpenSlide says stands
        return slide
    seen, unseen = (other, slide) if len(other.level_sizes) > 1 else (slide, other)
    unseen.close()
    return seen
