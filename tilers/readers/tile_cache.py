"""Decoded tiles of one slide, held as long as reading down the slide may need them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from tilers.readers.base import UndecodableRegion
from tilers.readers.tiles import Pixels

_SPARE_BYTES = 32 << 20
"""Held whatever it is: of a narrow slide several rows of patches are read at once, some by threads yet to begin."""

Key = tuple[int, int, int]
"""Level, column, row."""
Tile = Pixels | None | UndecodableRegion
"""Pixels, nothing where the file holds none, or what is wrong with it."""


class TileCache:
    """Decoded tiles, most recently used ones first to stay; two threads that want one decode it once."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held = most_bytes, 0
        self._tiles: OrderedDict[Key, Tile] = OrderedDict()
        self._making: set[Key] = set()
        self._needed: list[tuple[int, int]] = []
        self._changes = threading.Condition()

    def get(self, key: Key, make: Callable[[], Pixels | None]) -> Pixels | None:
        """The tile of that key, made if it is not held.

        Raises:
            UndecodableRegion: as `make` did, for whoever asks while the tile is held.
        """
        with self._changes:
            while key in self._making:
                self._changes.wait()
            held = key in self._tiles
            if held:
                self._tiles.move_to_end(key)
                tile = self._tiles[key]
            else:
                self._making.add(key)
        if not held:
            tile = self._make(key, make)
        if isinstance(tile, UndecodableRegion):
            raise UndecodableRegion(str(tile))
        return tile

    def _make(self, key: Key, make: Callable[[], Pixels | None]) -> Tile:
        try:
            try:
                tile: Tile = make()
            except UndecodableRegion as damage:
                # the error itself would hold the pixels of whoever asked, as long as the tile is held
                tile = UndecodableRegion(str(damage))
            with self._changes:
                self._tiles[key] = tile
                self._held += _bytes(tile)
                while self._held > self._most and len(self._tiles) > 1:
                    self._held -= _bytes(self._tiles.popitem(last=False)[1])
        finally:
            with self._changes:
                self._making.remove(key)
                self._changes.notify_all()
        return tile

    @contextmanager
    def needed(self, level: int, row: int) -> Iterator[None]:
        """Inside, tiles of that level from that row on are kept; what lies above what any thread needs is forgotten."""
        with self._changes:
            self._needed.append((level, row))
            if self._held > _SPARE_BYTES:
                self._let_go()
        try:
            yield
        finally:
            with self._changes:
                self._needed.remove((level, row))

    def _let_go(self) -> None:
        """Forget the tiles of levels that no thread needs, and those above what any needs of its level."""
        top = {at: min(row for other, row in self._needed if other == at) for at, _ in self._needed}
        for key in [(at, column, row) for at, column, row in self._tiles if at not in top or row < top[at]]:
            self._held -= _bytes(self._tiles.pop(key))


def _bytes(tile: Tile) -> int:
    return tile.nbytes if isinstance(tile, np.ndarray) else 0
