"""Decoded tiles of one slide, held as long as reading down the slide may need them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from tilers.readers.base import UndecodableRegion
from tilers.readers.tiles import Pixels

_SPARE_BYTES = 32 << 20
"""Held whatever it is: of a narrow slide several rows of patches are read at once, some by threads yet to begin."""

Key = tuple[int, int, int]
"""Level, column, row."""


class TileCache:
    """Decoded tiles, most recently used ones first to stay; two threads that want one decode it once."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held = most_bytes, 0
        self._tiles: OrderedDict[Key, Future[Pixels | None]] = OrderedDict()
        self._needed: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Pixels | None]) -> Pixels | None:
        """The tile of that key, made if it is not held."""
        with self._lock:
            tile = self._tiles.get(key)
            mine = tile is None
            if tile is None:
                tile = self._tiles[key] = Future()
            self._tiles.move_to_end(key)
        if mine:
            try:
                tile.set_result(make())
            except BaseException as error:
                # its traceback would hold the pixels of whoever asked, as long as the tile is held
                tile.set_exception(error.with_traceback(None))
            self._make_room(_bytes(tile))
        if isinstance(damage := tile.exception(), UndecodableRegion):
            raise UndecodableRegion(str(damage))
        return tile.result()

    @contextmanager
    def needed(self, level: int, row: int) -> Iterator[None]:
        """Inside, tiles of that level from that row on are kept; what lies above what any thread needs is forgotten."""
        with self._lock:
            self._needed.append((level, row))
            if self._held > _SPARE_BYTES:
                self._let_go()
        try:
            yield
        finally:
            with self._lock:
                self._needed.remove((level, row))

    def _let_go(self) -> None:
        """Forget the tiles of levels that no thread needs, and those above what any needs of its level."""
        top = {at: min(row for other, row in self._needed if other == at) for at, _ in self._needed}
        done = [key for key, tile in self._tiles.items() if tile.done()]
        for key in [(at, column, row) for at, column, row in done if at not in top or row < top[at]]:
            self._held -= _bytes(self._tiles.pop(key))

    def _make_room(self, added: int) -> None:
        with self._lock:
            self._held += added
            while self._held > self._most and len(self._tiles) > 1:
                oldest, tile = next(iter(self._tiles.items()))
                if not tile.done():
                    return
                del self._tiles[oldest]
                self._held -= _bytes(tile)


def _bytes(tile: Future[Pixels | None]) -> int:
    pixels = None if tile.exception() else tile.result()
    return 0 if pixels is None else pixels.nbytes
