"""Decoded tiles on disk: what is decoded to find tissue is not decoded again for patches.

Where both are read from one level at one scale, as of JPEG 2000 slides without levels, whose tiles take 7 ms each.
JPEG is decoded at ⅛ to find tissue and at another scale for patches: to decode that twice takes no longer than to
write, read and average what was decoded once.
"""

from __future__ import annotations

import math
import os
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from zlib import crc32

import numpy as np

from tilers.readers.tiles import Pixels

Place = tuple[int, int]
"""Column and row."""


class Spool:
    """Tiles of one size by place, for several threads, in a file without a name: gone however the process ends.

    It grows until half of what was free on the disk is taken, by whomever. What there is no room for, what the disk
    refuses, and what does not come back as it was, it does not hold.

    Args:
        folder: on whose disk.

    Raises:
        OSError: no file can be made there.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 `close` is its end
        self._least = self._free() // 2
        self._held: dict[Place, tuple[int, tuple[int, ...], int]] = {}
        self._next = count()

    def put(self, place: Place, pixels: Pixels) -> None:
        """Hold a tile."""
        with suppress(OSError):
            if self._free() < self._least:
                return
            data = np.ascontiguousarray(pixels).data
            start = next(self._next) * data.nbytes
            if os.pwrite(self._file.fileno(), data, start) == data.nbytes:
                self._held[place] = start, pixels.shape, crc32(data)

    def get(self, place: Place) -> Pixels | None:
        """A tile that is held."""
        if place not in self._held:
            return None
        start, shape, sum_ = self._held[place]
        with suppress(OSError):
            data = os.pread(self._file.fileno(), math.prod(shape), start)
            if crc32(data) == sum_:
                return np.frombuffer(data, np.uint8).reshape(shape)
        return None

    def close(self) -> None:
        """Give the disk back what was taken; that it could not write everything is no longer of interest."""
        with suppress(OSError):
            self._file.close()

    def _free(self) -> int:
        disk = os.fstatvfs(self._file.fileno())
        return disk.f_bavail * disk.f_frsize
