"""Damage slides at random and say how reading them ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from tilers.patch import read_patch
from tilers.readers import UndecodableRegion
from tilers.readers.direct import DirectReader
from tilers.readers.tile_list import NotDirect
from tilers.readers.tiles import Pixels
from tilers.survey import survey
from tilers.tile import tile
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore, SlideFacts

_HEAD = 4096
_WINDOW = 512

Windows = Mapping[tuple[int, int, int], Pixels | None]
"""Level, x and y to pixels; None where they do not decode."""


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


def pixels_of(path: Path) -> Windows:
    """All that the direct reader reads of a slide, window by window and level by level."""
    reader = DirectReader(path)
    try:
        return dict(_windows(reader))
    finally:
        reader.close()


def outcome_of(path: Path, whole: Windows) -> str:
    """How reading a damaged slide ended; an exception that no caller expects is named in capitals.

    Args:
        path: the slide.
        whole: `pixels_of` the slide before it was damaged.
    """
    try:
        reader = DirectReader(path)
    except NotDirect:
        return "refused by the direct reader"
    except Exception as error:  # `auto` keeps any reader's reason and asks the next
        return f"refused by a library: {type(error).__name__}"
    try:
        found = dict(_windows(reader))
    except Exception as error:
        return f"ESCAPED: {type(error).__name__}: {error}"
    finally:
        reader.close()
    read = "partly read" if any(pixels is None for pixels in found.values()) else "read"
    if found.keys() != whole.keys():
        return f"{read}, of other levels"
    pairs = ((pixels, whole[window]) for window, pixels in found.items())
    off = max((_off(a, b) for a, b in pairs if a is not None and b is not None), default=0)
    return f"{read}, with other pixels" if off else f"{read}, the same pixels"


def _windows(reader: DirectReader) -> Iterator[tuple[tuple[int, int, int], Pixels | None]]:
    for level, downsample in enumerate(reader.downsamples):
        width, height = (min(4096, round(n / downsample)) for n in reader.size)
        for y in range(0, height, _WINDOW):
            for x in range(0, width, _WINDOW):
                try:
                    pixels = reader.read(level, x, y, _WINDOW, _WINDOW)
                except UndecodableRegion:
                    yield (level, x, y), None
                else:
                    assert pixels.shape == (_WINDOW, _WINDOW, 3)
                    yield (level, x, y), pixels


_SETTINGS = TileSettings(patch_size=256, codec="zstd")
_CELL = 32
"""Pixels of 1 µm: what tiling holds against the overview are means over so many."""
_GARBAGE = 40
"""Grey levels that such means may be off before tiling refuses a patch."""

Patches = Mapping[tuple[int, int], Pixels]
"""By place on the slide."""


def patches_of(path: Path) -> Patches:
    """Every patch of a slide's grid, glass included."""
    found = survey(Slide("s", path), _SETTINGS)
    with closing(found.reader):
        places = [(int(x), int(y)) for x, y in found.grid.origins]
        return {xy: read_patch(found.reader, found.grid, found.level, xy, _SETTINGS.patch_size)[0] for xy in places}


def _stored(path: Path, out: Path) -> tuple[Patches, SlideFacts]:
    """What tiling stores in `out`, which is deleted again."""
    try:
        tile(Slide("s", path), _SETTINGS, out)
        store = PatchStore(out)
        pixels = {(int(x), int(y)): np.asarray(store.patches[n]) for n, (x, y) in enumerate(store.coords)}
        return pixels, store.facts
    finally:
        shutil.rmtree(out, ignore_errors=True)


def stored_of(path: Path, whole: Patches, out: Path) -> str:
    """How tiling a damaged slide ended; what must not happen is named in capitals.

    Args:
        path: the slide.
        whole: `patches_of` the slide before it was damaged.
        out: folder of the store, which need not be there.
    """
    try:
        found, facts = _stored(path, out)
    except SlideError:
        return "refused"
    except Exception as error:
        return f"ESCAPED: {type(error).__name__}: {error}"
    if found.keys() - whole.keys():
        return "stored, on another grid"
    off = max((_means_apart(pixels, whole[place]) for place, pixels in found.items()), default=0)
    if off > _GARBAGE:
        if any("could not be noticed" in warning for warning in facts.warnings):
            return "stored, garbage may be there and said so"
        # where damage took the other levels away, nothing is left to hold patches against
        return "GARBAGE stored" if facts.levels > 1 else "stored, garbage that one level cannot show"
    same = all(np.array_equal(pixels, whole[place]) for place, pixels in found.items())
    return f"stored, {'the same pixels' if same else 'some pixels a little off'}"


def _means_apart(a: Pixels, b: Pixels) -> float:
    """Of two patches, the largest difference of means over 32 µm."""
    means = (p.reshape(-1, _CELL, p.shape[1] // _CELL, _CELL, 3).mean((1, 3)) for p in (a, b))
    return float(np.abs(np.subtract(*means)).max())


def _off(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(np.int16) - b).max())
