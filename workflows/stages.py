"""One stage for all slides, without what follows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from workflows.case import Work, check_parts, name_slides, tile_case, unexpected
from workflows.checkpoints import Model
from workflows.run import check_cases
from wsi_pipeline.cases import Case
from wsi_pipeline.errors import PipelineError
from wsi_pipeline.settings import RunSettings
from wsi_pipeline.store.lock import locked
from wsi_pipeline.store.outcome import SlideOutcome
from wsi_pipeline.store.paths import CaseFolder
from wsi_pipeline.store.publish import ensure_writable, sweep_partials


def run_stage(last: Literal["tile", "encode"], cases: Sequence[Case], out: Path, settings: RunSettings) -> list[Work]:
    """Tile every slide, and encode it when `last` is `encode`; what is there is kept.

    Returns:
        Each case's work: outcomes, patch stores, paths of token stores.

    Raises:
        ModelError: the checkpoint cannot be had.
        StoreError: `out` cannot be written.
    """
    check_cases(cases)
    ensure_writable(out)
    if last == "tile":
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"name": "none"})})
    model = Model(settings.model, settings.machine.batch_size)
    model.check()
    settings = model.adapt(settings)
    done = []
    for case in cases:
        folder = CaseFolder(out, case.id)
        work = Work(case, folder, settings, model)
        try:
            with locked(folder.lock):
                sweep_partials(folder.path)
                name_slides(work)
                check_parts(work)
                tile_case(work)
                if last == "encode":
                    from workflows.reporting import encode_case

                    encode_case(work)
        except PipelineError as error:  # the other cases go on
            _fail(work, last, error.reason)
        except Exception as error:
            _fail(work, last, unexpected(case, error))
        done.append(work)
    return done


def _fail(work: Work, stage: str, reason: str) -> None:
    """Slides that were to be read; what is known of others stays."""
    for slide in work.case.slides:
        known = work.outcomes.get(slide.id)
        if known is None or known.status == "done":
            work.outcomes[slide.id] = SlideOutcome(slide=slide.id, status="failed", stage=stage, reason=reason)
