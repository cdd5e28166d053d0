"""Ways of tiling that are timed beside each other: ours, loops over other libraries, and the limits of the decoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from tilers.geometry import window
from tilers.patch import patch_level
from tilers.readers.direct import DirectReader
from tilers.tile import tile
from wsi_pipeline.cases import Slide
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore, PatchWriter

PATCH = 768
CORES = len(os.sched_getaffinity(0))
ALL_CORES = f"wsi-pipeline, direct, {CORES} cores"


@dataclass(frozen=True)
class Places:
    """Where the patches are: (n, 2) origins, and their edge, in level-0 pixels."""

    origins: NDArray[np.int32]
    step: int


Work = Callable[[Path, Path, Places], int]
"""Slide, store to be written, patches to be taken; how many were."""


def ours(reader: str, threads: int = 1) -> Work:
    """The tiling stage itself."""

    def work(slide: Path, out: Path, places: Places) -> int:
        tile(Slide("big", slide), TileSettings(reader=reader), out, threads)  # type: ignore[arg-type]
        return len(PatchStore(out))

    return work


def loop(read: Callable[[Path], Region]) -> Work:
    """What most pipelines do: read each patch's region at level 0 or the level above, resize it, store it."""

    def work(slide: Path, out: Path, places: Places) -> int:
        region = read(slide)
        writer = PatchWriter(out, len(places.origins), PATCH, "jpeg", 90)
        for x, y in places.origins:
            writer.append(region(int(x), int(y), places.step), (int(x), int(y)), 1.0, (1.0,))
        writer.flush()
        return len(places.origins)

    return work


Region = Callable[[int, int, int], NDArray[np.uint8]]
"""A patch at x, y, so many level-0 pixels wide, as an array of `PATCH` pixels."""


def with_openslide(path: Path) -> Region:
    """`read_region` of the best level, bilinear resize."""
    import openslide

    slide = openslide.OpenSlide(path)
    return _resized(slide, lambda xy, level, side: slide.read_region(xy, level, (side, side)).convert("RGB"))


def with_tiffslide(path: Path) -> Region:
    """The same with tiffslide's arrays."""
    import tiffslide

    slide = tiffslide.TiffSlide(path)

    def read(xy: tuple[int, int], level: int, side: int) -> Image.Image:
        return Image.fromarray(slide.read_region(xy, level, (side, side), as_array=True)[..., :3])

    return _resized(slide, read)


def _resized(slide: Any, read: Callable[[tuple[int, int], int, int], Image.Image]) -> Region:
    """Of the level that both libraries call best; `read` takes a corner, a level and an edge in its pixels."""

    def region(x: int, y: int, step: int) -> NDArray[np.uint8]:
        level = slide.get_best_level_for_downsample(step / PATCH * 1.01)
        side = round(step / slide.level_downsamples[level])
        pixels = read((x, y), level, side)
        return np.asarray(pixels.resize((PATCH, PATCH), Image.Resampling.BILINEAR) if side != PATCH else pixels)

    return region


def limit(encode: bool) -> Work:
    """Decode each touched tile once at the scale that tiling would take; with `encode`, encode each patch once too."""

    def work(slide: Path, out: Path, places: Places) -> int:
        reader = DirectReader(slide)
        level = patch_level(reader, places.step / PATCH)
        downsample = reader.downsamples[level]
        areas = [window(x, y, (places.step, places.step), downsample) for x, y in places.origins]
        touched = {tile for a in areas for tile in reader.touched(level, a.x, a.y, a.width, a.height)}
        for column, row in sorted(touched, key=lambda tile: tile[::-1]):
            reader.decode(level, column, row)
        patch = reader.read(level, 0, 0, PATCH, PATCH)
        for _ in range(len(places.origins) if encode else 0):
            simplejpeg.encode_jpeg(patch, quality=90, colorsubsampling="444")
        return len(places.origins)

    return work


METHODS: dict[str, Work] = {
    "limit: decode": limit(encode=False),
    "limit: decode + encode": limit(encode=True),
    "wsi-pipeline, direct": ours("direct"),
    "wsi-pipeline, openslide": ours("openslide"),
    "wsi-pipeline, tiffslide": ours("tiffslide"),
    "OpenSlide loop": loop(with_openslide),
    "tiffslide loop": loop(with_tiffslide),
    **({ALL_CORES: ours("direct", CORES)} if CORES > 1 else {}),
}
