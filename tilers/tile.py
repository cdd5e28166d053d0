"""The tiling stage: one slide in, one patch store out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tilers import quality
from tilers.agreement import Agreement, Read
from tilers.grid import covered
from tilers.patch import read_patch
from tilers.readers import UndecodableRegion
from tilers.survey import Survey, survey
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import SlideError
from wsi_pipeline.events import emit
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.fingerprint import fingerprint, input_identity
from wsi_pipeline.store.patches import SCHEMA, SHARD, PatchWriter, SlideFacts
from wsi_pipeline.store.publish import publishing

T = TypeVar("T")
R = TypeVar("R")

ALGORITHM = 13
"""Raised whenever the same settings would give other pixels or patches; calibrations are bound to it."""
_DOUBTFUL = "its levels show different pictures, so that damage within tiles could not be noticed"
_UNHELD = "its overview does not decode everywhere, so that damage within patches there could not be noticed"


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
    def read(index: int) -> tuple[NDArray[np.uint8], float]:
        x, y = (int(v) for v in found.grid.origins[index])
        return read_patch(found.reader, found.grid, found.level, (x, y), settings.patch_size)

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
        return patch, quality.measure(image, valid, found.patch_mpp, light)

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
        read_downsample=reader.downsamples[found.level],
        overview_mpp=overview.mpp,
        tissue_mm2=round(found.mm2(found.mask), 4),
        tissue_left_mm2=round(found.mm2(found.mask & ~covered(found.mask.shape, found.grid, found.candidates)), 4),
        patches_expected=len(found.candidates),
        patches_unreadable=unreadable,
        patches_disagreeing=agreement.refused,
        quality_columns=quality.COLUMNS,
    )
