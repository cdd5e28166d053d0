"""What is expected of a slide that is to be tiled: patches, and seconds on this machine."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from workflows.case import Work
from workflows.supervise import supervised
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import PipelineError
from wsi_pipeline.events import Event, emit, listening
from wsi_pipeline.settings import RunSettings, TileSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.publish import opened

_TOLD = "estimate.slide"


@dataclass(frozen=True)
class SlideEstimate:
    """What is expected of one slide; `problem` says why nothing is. What has its patches already costs no seconds."""

    slide: str
    part: str | None
    mpp: float | None = None
    mpp_source: str = ""
    patches: int = 0
    seconds: float = 0.0
    phantom: bool = False
    tiled: bool = False
    problem: str | None = None


def expect(work: Work) -> tuple[SlideEstimate, ...]:
    """Of every slide of a case whose slides are named."""
    with ThreadPoolExecutor(work.settings.machine.workers) as pool:
        return tuple(pool.map(lambda slide: _expected(slide, work), work.case.slides))


def _expected(slide: Slide, work: Work) -> SlideEstimate:
    if (known := work.outcomes.get(slide.id)) is not None:
        return SlideEstimate(slide.id, slide.part, problem=known.reason)
    final = work.folder.patches(slide.id, work.names[slide.id])
    if (store := opened(final, PatchStore)) is None:
        return _surveyed(slide, work.settings)
    facts = store.facts
    return SlideEstimate(
        slide.id, slide.part, facts.mpp, facts.mpp_source, len(store), phantom=facts.phantom, tiled=True
    )


def _surveyed(slide: Slide, settings: RunSettings) -> SlideEstimate:
    """In a child, as in tiling: a slide that crashes its decoder must not end the run before it begins."""
    heard: dict[str, Any] = {}

    def listen(event: Event) -> None:
        if event.name == _TOLD and event.facts["slide"] == slide.id:
            heard.update(event.facts)

    machine = settings.machine
    try:
        with listening(listen):
            supervised(_survey, (slide, settings.tile), slide.path, machine.tile_timeout_s, machine.tile_memory_gib)
    except PipelineError as error:
        return SlideEstimate(slide.id, slide.part, problem=error.reason)
    return SlideEstimate(part=slide.part, **heard)


def _survey(slide: Slide, settings: TileSettings) -> None:
    from tilers.patch import read_patch
    from tilers.survey import survey

    begun = time.perf_counter()
    found = survey(slide, settings)
    with closing(found.reader):
        seconds = time.perf_counter() - begun
        if len(found.candidates):
            x, y = (int(v) for v in found.grid.origins[found.candidates[0]])
            one = 0.01  # to encode and write
            started = time.perf_counter()
            try:
                read_patch(found.reader, found.grid, found.level, (x, y), settings.patch_size)
            except Exception:  # a sample; tiling itself will say what is wrong
                one += 0.1
            seconds += len(found.candidates) * (one + time.perf_counter() - started)
        emit(
            _TOLD, slide=slide.id, mpp=found.resolution.mpp, mpp_source=found.resolution.source,
            patches=len(found.candidates), seconds=seconds, phantom=found.reader.is_phantom,
        )  # fmt: skip
