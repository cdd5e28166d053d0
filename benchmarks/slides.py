"""Large slides for benchmarks: pieces of one phantom lymph node, repeated."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from workflows.phantom.drawing.aperio import describe_page
from workflows.phantom.drawing.layout import SlideSpec
from workflows.phantom.drawing.slide import make_slide

_EDGE = 4096
NUMBER = "Number = "
"""Stands before four digits in every description, so that copies of a slide can be made to differ."""


@dataclass(frozen=True)
class BigSlide:
    """A kind of slide.

    Attributes:
        name: as tables say it.
        mpp: µm per pixel of level 0.
        tile: edge of its tiles.
        factors: downsamples of its other levels.
        jpeg2000: codec; JPEG 4:2:0 at quality 80 otherwise.
    """

    name: str
    mpp: float
    tile: int
    factors: tuple[int, ...]
    jpeg2000: bool = False


def write_big_slide(path: Path, kind: BigSlide, width: int, height: int) -> None:
    """An Aperio pyramid of `width` × `height` pixels whose tiles repeat, at the same places on every level."""
    image = _texture(kind.mpp)
    coarsest = max((1, *kind.factors))
    period = _EDGE // (kind.tile * coarsest) * kind.tile * coarsest
    image = image[:period, :period]
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for factor in (1, *kind.factors):
            w, h = width // factor, height // factor
            writer.write(
                _tiles(np.asarray(Image.fromarray(image).reduce(factor)), w, h, kind),
                shape=(h, w, 3),
                dtype=np.uint8,
                tile=(kind.tile, kind.tile),
                compression=33005 if kind.jpeg2000 else "jpeg",
                photometric="rgb" if kind.jpeg2000 else "ycbcr",
                subsampling=None if kind.jpeg2000 else (2, 2),
                subfiletype=0,
                description=f"{describe_page((width, height), (w, h), kind.tile, kind.mpp)}|{NUMBER}0000",
                metadata=None,
            )
            if factor == 1:  # the second page of an Aperio slide is no level
                writer.write(np.full((64, 64, 3), 200, np.uint8), photometric="rgb", rowsperstrip=16, metadata=None)


def _texture(mpp: float) -> NDArray[np.uint8]:
    """A large piece of phantom lymph node, without glass, to cut tiles from."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.svs"
        mm = _EDGE * mpp / 1000 * 1.7 + 1
        make_slide(path, SlideSpec(1, "Lymph node", (), mm, mm, mpp=mpp, distractors=False))
        image = tifffile.imread(path, key=0)
    y, x = (image.shape[0] - _EDGE) // 2, (image.shape[1] - _EDGE) // 2
    return np.asarray(image[y : y + _EDGE, x : x + _EDGE])


def _tiles(image: NDArray[np.uint8], width: int, height: int, kind: BigSlide) -> Iterator[bytes]:
    tile = kind.tile
    side = len(image) // tile
    cut = [
        [_encode(image[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile], kind) for x in range(side)]
        for y in range(side)
    ]
    for y in range(-(-height // tile)):
        for x in range(-(-width // tile)):
            yield cut[y % side][x % side]


def _encode(tile: NDArray[np.uint8], kind: BigSlide) -> bytes:
    pixels = np.ascontiguousarray(tile)
    if kind.jpeg2000:
        return bytes(imagecodecs.jpeg2k_encode(pixels, level=60, codecformat="J2K", mct=False))
    return bytes(simplejpeg.encode_jpeg(pixels, quality=80, colorsubsampling="420"))
