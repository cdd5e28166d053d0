"""Slides put together from patches of others, so that a case composed of their tokens also exists as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from workflows.phantom.drawing.aperio import describe_page

_EDGE = 768
"""Pixels of a patch at 1 µm/px."""
_FACTOR = 4
_QUALITY = 95
"""Above that of the slides they come from, so that little is lost a second time."""

Pixels = NDArray[np.uint8]


def write_mosaic(path: Path, patches: Sequence[Pixels]) -> None:
    """Patches (768, 768, 3) row by row in a square, as a pyramid of two levels; a patch is a tile of each.

    A tiler that reads it at 1 µm/px, from its corner, finds the same patches in the same order.
    """
    columns = int(np.ceil(np.sqrt(len(patches))))
    rows = -(-len(patches) // columns)
    width, height = columns * _EDGE, rows * _EDGE
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for factor in (1, _FACTOR):
            w, h = width // factor, height // factor
            writer.write(
                _tiles(patches, rows * columns, factor),
                shape=(h, w, 3),
                dtype=np.uint8,
                tile=(_EDGE // factor, _EDGE // factor),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(1, 1),
                subfiletype=0 if factor == 1 else 1,
                description=describe_page((width, height), (w, h), _EDGE // factor, mpp=1),
                metadata=None,
            )


def _tiles(patches: Sequence[Pixels], count: int, factor: int) -> Iterator[bytes]:
    glass = np.full((_EDGE, _EDGE, 3), 245, np.uint8)
    for number in range(count):
        pixels = patches[number] if number < len(patches) else glass
        smaller = np.ascontiguousarray(Image.fromarray(pixels).reduce(factor))
        yield bytes(simplejpeg.encode_jpeg(smaller, quality=_QUALITY, colorsubsampling="444"))
