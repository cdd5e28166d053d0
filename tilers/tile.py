"""The tiling stage: one slide in, one patch store out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tilers import quality
from tilers.agreement import Agreement, Read
from tilers.geometry import Grid, is_upsampling, make_grid, pick_level, window
from tilers.grid import covered, fragments, fullest_of_rest, tissue_fractions
from tilers.outside_mask import read_mask
from tilers.overview import Overview, overview_level, read_overview
from tilers.readers import Opened, Reader, UndecodableRegion, open_slide
from tilers.readers.base import Keeping
from tilers.resample import area_average, average_of_means
from tilers.resolution import Resolution, resolve
from tilers.tissue import find_tissue, is_dark_field
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import SlideError
from wsi_pipeline.events import emit
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.fingerprint import fingerprint, input_identity
from wsi_pipeline.store.patches import MOST_LEFT, SCHEMA, SHARD, PatchWriter, SlideFacts
from wsi_pipeline.store.publish import publishing

T = TypeVar("T")
R = TypeVar("R")

ALGORITHM = 12
"""Raised whenever the same settings would give other pixels or patches; calibrations are bound to it."""
_DOUBTFUL = "its levels show different pictures, so that damage within tiles could not be noticed"
_UNHELD = "its overview does not decode everywhere, so that damage within patches there could not be noticed"
_HAIR = 1e-6
"""Of a pixel: what a division may be off by."""


def patches_fingerprint(slide: Slide, settings: TileSettings) -> str:
    """The name of the slide's patch store: settings, schema and the input's identity.

    Raises:
        SlideError: the file is missing or cannot be read.
    """
    try:
        identity = [input_identity(path) for path in (slide.path, slide.mask) if path]
    except OSError as error:
        path = error.filename or slide.path
        raise SlideError(path, f"cannot be read ({error.strerror})", "check the path and permissions") from None
    except Exception as error:  # servers have their own kinds
        cause = f"cannot be reached ({type(error).__name__})"
        raise SlideError(slide.path, cause, "check the address, and run again") from None
    algorithm = (ALGORITHM, quality.ALGORITHM)
    return fingerprint(
        stage="tile", schema=SCHEMA, algorithm=algorithm, settings=settings, input=identity, mpp=slide.mpp
    )


@dataclass(frozen=True)
class Survey:
    """What is known of an open slide before any patch is read: what `inspect` and `--dry-run` show."""

    opened: Opened
    resolution: Resolution
    overview: Overview
    mask: NDArray[np.bool_]
    grid: Grid
    tissue: NDArray[np.float64]
    candidates: NDArray[np.intp]
    warnings: tuple[str, ...]

    def mm2(self, mask: NDArray[np.bool_]) -> float:
        """Area of a mask on the overview."""
        sx, sy = self.overview.scale
        return float(mask.sum() * sx * sy * self.resolution.mpp**2 / 1e6)

    @property
    def comparable(self) -> bool:
        """Whether patches can be held against the overview; of one level it comes from the same bytes, and agrees."""
        return len(self.reader.level_sizes) > 1

    @property
    def reader(self) -> Reader:
        """The open reader."""
        return self.opened.reader


def survey(slide: Slide, settings: TileSettings, threads: int = 1, scratch: Path | None = None) -> Survey:
    """Open a slide, settle its resolution, find tissue and the patches to read. The caller closes the reader.

    Args:
        slide, settings: as for `tile`.
        threads: that decode and resample.
        scratch: folder where tiles decoded for the overview may wait for their patches; None when none are read.

    Raises:
        SlideError: not a slide, no resolution, too coarse, or nothing decodes.
    """
    opened = open_slide(slide.path, settings.reader)
    try:
        return _survey(slide, opened, settings, threads, scratch)
    except BaseException:
        opened.reader.close()
        raise


def _survey(slide: Slide, opened: Opened, settings: TileSettings, threads: int, scratch: Path | None) -> Survey:
    reader = opened.reader
    resolution = resolve(slide.path, reader, slide.mpp, settings)
    upsampling = is_upsampling(resolution.mpp, settings.mpp)
    if upsampling and not settings.allow_upsampling:
        raise SlideError(
            slide.path,
            f"has {resolution.mpp:g} µm/px ({resolution.source}), coarser than the target {settings.mpp:g}",
            "scan it at higher power, correct its mpp, or accept invented pixels with --allow-upsampling",
        )
    level = patch_level(reader, settings.mpp, resolution.mpp)
    if scratch and isinstance(reader, Keeping) and level == overview_level(reader, resolution.mpp):
        reader.keep(level, scratch)
    overview = read_overview(reader, resolution.mpp, threads)
    if overview.undecodable.all():
        raise SlideError(slide.path, "opens, but its pixels do not decode", "copy or export the file again")
    warnings = list(resolution.warnings)
    if upsampling:
        warnings.append(f"{resolution.mpp:g} µm/px, coarser than {settings.mpp:g}: pixels between are invented")
    if slide.mask:
        mask = read_mask(slide.mask, reader, overview) & ~overview.undecodable
    elif is_dark_field(overview.image):
        warnings.append("dark background: fluorescence, not a stained bright-field section; not tiled")
        mask = np.zeros(overview.undecodable.shape, bool)
    else:
        mask = find_tissue(overview.image, overview.mpp) & ~overview.undecodable
    grid = make_grid(reader.bounds, settings.patch_size, settings.mpp, resolution.mpp)
    tissue = tissue_fractions(mask, grid)
    unknown = tissue_fractions(overview.undecodable, grid)
    # where the overview does not decode, tissue is possible: such patches are read, or counted as unreadable
    enough = np.flatnonzero(tissue + unknown >= max(settings.min_tissue, 1e-6))
    candidates = np.union1d(enough, fragments(mask, grid, enough))
    if settings.min_tissue <= TileSettings().min_tissue:
        candidates = np.union1d(candidates, fullest_of_rest(tissue, candidates, MOST_LEFT))
    return Survey(opened, resolution, overview, mask, grid, tissue, candidates, tuple(warnings))


def tile(slide: Slide, settings: TileSettings, final: Path, threads: int = 1, expected: str | None = None) -> None:
    """Write the patch store of `slide` to `final`; a slide without tissue gets a store of no patches.

    Args:
        slide: to be tiled.
        settings: decide what is stored.
        final: folder of the store.
        threads: that decode and resample; they change nothing but the time.
        expected: the fingerprint that the store was named by; None for that of what lies there now.

    Raises:
        SlideError: the slide cannot be tiled, or it or its mask changed meanwhile; nothing is stored.
        StoreError: the disk refuses.
    """
    as_found = patches_fingerprint(slide, settings)
    if expected not in (None, as_found):
        raise _changed(slide, "since the run began")
    with suppress(OSError):  # what the disk has against it, `publishing` tells
        final.parent.mkdir(parents=True, exist_ok=True)
    found = survey(slide, settings, threads, final.parent)
    with closing(found.reader), publishing(final) as partial:
        writer = PatchWriter(partial, len(found.candidates), settings.patch_size, settings.codec, settings.jpeg_quality)
        read = _reading(found, settings)
        agreement = Agreement(found.overview, found.grid, found.candidates, read)
        unreadable = _write_patches(slide, found, settings, writer, threads, read, agreement)
        if unreadable and unreadable == len(found.candidates):
            what = "its levels show different pictures" if agreement.refused else "its pixels do not decode"
            raise SlideError(slide.path, f"opens, but {what}", "copy or export the file again")
        if patches_fingerprint(slide, settings) != as_found:
            raise _changed(slide, "while it was read")
        writer.close(_facts(slide, found, settings, unreadable, agreement), found.overview.image, found.mask)


def _changed(slide: Slide, when: str) -> SlideError:
    what = "it or its mask changed" if slide.mask else "changed"
    return SlideError(slide.path, f"{what} {when}", "run again once it is copied completely")


def _reading(found: Survey, settings: TileSettings) -> Read:
    level = patch_level(found.reader, settings.mpp, found.resolution.mpp)

    def read(index: int) -> tuple[NDArray[np.uint8], float]:
        x, y = (int(v) for v in found.grid.origins[index])
        return read_patch(found.reader, found.grid, level, (x, y), settings.patch_size)

    return read


def _write_patches(
    slide: Slide,
    found: Survey,
    settings: TileSettings,
    writer: PatchWriter,
    threads: int,
    read: Read,
    agreement: Agreement,
) -> int:
    """Read, check, measure and write every candidate; how many do not decode or are refused."""
    light = quality.light_of(found.overview.image, found.mask)

    def make(index: int) -> tuple[NDArray[np.uint8], tuple[float, ...]] | None:
        try:
            patch, valid = read(index)
        except UndecodableRegion:
            return None
        image = Image.fromarray(patch)
        if found.comparable and agreement.refuses(index, image):
            return None
        return patch, quality.measure(image, valid, settings.mpp, light)

    unreadable = 0
    emit("tile.start", slide=slide.id, total=len(found.candidates))
    with ThreadPoolExecutor(threads) as pool:
        made = in_order(pool, make, found.candidates, ahead=threads + SHARD)  # threads work on while a shard is written
        for done, (index, patch) in enumerate(zip(found.candidates, made, strict=True), 1):
            if patch is None:
                unreadable += 1
            else:
                x, y = found.grid.origins[index]
                writer.append(patch[0], (int(x), int(y)), float(found.tissue[index]), patch[1])
            emit("tile.progress", slide=slide.id, done=done, total=len(found.candidates))
    return unreadable


def in_order(pool: Executor, make: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """What `make` gives for each item, in order; at most `ahead` are made or waiting."""
    running: deque[Future[R]] = deque()
    for item in items:
        running.append(pool.submit(make, item))
        if len(running) == ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def patch_level(reader: Reader, target_mpp: float, mpp: float) -> int:
    """The level that patches are read from."""
    return pick_level(reader.downsamples, target_mpp, mpp, len(reader.level_sizes))


def read_patch(
    reader: Reader, grid: Grid, level: int, xy: tuple[int, int], size: int
) -> tuple[NDArray[np.uint8], float]:
    """One (size, size, 3) patch and the fraction of it inside the scanned area; the rest is white.

    Raises:
        UndecodableRegion: the bytes there do not decode.
    """
    x, y = xy
    downsample = reader.downsamples[level]
    area = window(x, y, (grid.step, grid.step), downsample)
    pixels = reader.read(level, area.x, area.y, area.width, area.height)
    bounds = grid.bounds
    # the last pixel may lie half outside: what it is the mean of is the reader's to know
    right = ceil((bounds.x + bounds.width) / downsample - _HAIR) - area.x
    bottom = ceil((bounds.y + bounds.height) / downsample - _HAIR) - area.y
    pixels[:, max(0, right) :] = 255
    pixels[max(0, bottom) :] = 255
    inside = min(1.0, (bounds.x + bounds.width - x) / grid.step) * min(1.0, (bounds.y + bounds.height - y) / grid.step)
    average = average_of_means if level else area_average
    return average(pixels, area.crop, (size, size)), inside


def _doubts(found: Survey, agreement: Agreement) -> list[str]:
    """Why damage may have gone unnoticed, on a slide of several levels."""
    if agreement.doubtful:
        return [_DOUBTFUL]
    return [_UNHELD] if found.comparable and found.overview.undecodable.any() else []


def _facts(slide: Slide, found: Survey, settings: TileSettings, unreadable: int, agreement: Agreement) -> SlideFacts:
    reader, overview = found.reader, found.overview
    return SlideFacts(
        slide_id=slide.id,
        reader=reader.name,
        requested_reader=settings.reader,
        refused_readers=found.opened.refused,
        level0_size=reader.size,
        origin=(reader.bounds.x, reader.bounds.y),
        scanned=(reader.bounds.width, reader.bounds.height),
        levels=len(reader.level_sizes),
        mpp=found.resolution.mpp,
        mpp_source=found.resolution.source,
        warnings=(*found.warnings, *_doubts(found, agreement)),
        vendor=reader.vendor,
        objective_power=reader.objective_power,
        phantom=reader.is_phantom,
        patch_size=settings.patch_size,
        target_mpp=settings.mpp,
        patch_level0=found.grid.step,
        read_downsample=reader.downsamples[patch_level(reader, settings.mpp, found.resolution.mpp)],
        overview_mpp=overview.mpp,
        tissue_mm2=round(found.mm2(found.mask), 4),
        tissue_left_mm2=round(found.mm2(found.mask & ~covered(found.mask.shape, found.grid, found.candidates)), 4),
        patches_expected=len(found.candidates),
        patches_unreadable=unreadable,
        patches_disagreeing=agreement.refused,
        quality_columns=quality.COLUMNS,
    )
