"""Damage slides at random and say how reading them ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tilers.readers import UndecodableRegion
from tilers.readers.direct import DirectReader
from tilers.readers.tile_list import NotDirect

_HEAD = 4096


def mutate(rng: np.random.Generator, data: bytes) -> bytes:
    """One or a few kinds of damage: bytes changed anywhere or in a header, a stretch zeroed, copied or cut out."""
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(6))
        size = len(damaged)
        start = int(rng.integers(0, size))
        stop = min(size, start + int(rng.integers(1, 2000)))
        if kind == 0:
            damaged[start] = int(rng.integers(256))
        elif kind == 1:  # tags of the file lie at its ends
            place = int(rng.integers(min(_HEAD, size)))
            damaged[place if rng.random() < 0.5 else size - 1 - place] = int(rng.integers(256))
        elif kind == 2:
            damaged[start:stop] = bytes(stop - start)
        elif kind == 3:
            damaged[start:stop] = rng.bytes(stop - start)
        elif kind == 4:
            source = int(rng.integers(0, size - (stop - start) + 1))
            damaged[start:stop] = damaged[source : source + stop - start]
        else:
            del damaged[start:stop]
        if len(damaged) < 16:
            return data[:16]
    return bytes(damaged)


def outcome_of(path: Path) -> str:
    """`read`, `partly read`, `refused: …`; an exception of any other kind is named in capitals."""
    try:
        reader = DirectReader(path)
    except NotDirect:
        return "refused by the direct reader"
    except Exception as error:  # `auto` keeps any reader's reason and asks the next
        return f"refused by a library: {type(error).__name__}"
    unreadable = 0
    try:
        for level, downsample in enumerate(reader.downsamples):
            width, height = (min(4096, round(n / downsample)) for n in reader.size)
            for y in range(0, height, 512):
                for x in range(0, width, 512):
                    try:
                        pixels = reader.read(level, x, y, 512, 512)
                    except UndecodableRegion:
                        unreadable += 1
                    else:
                        assert pixels.shape == (512, 512, 3)
    except Exception as error:
        return f"ESCAPED: {type(error).__name__}: {error}"
    finally:
        reader.close()
    return "partly read" if unreadable else "read"
