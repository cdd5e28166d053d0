"""One case from slides to published report: what is there already is not made again."""

from __future__ import annotations

import shutil
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from reporters.schema import ALGORITHM
from tilers.tile import patches_fingerprint
from workflows.checkpoints import Model
from workflows.tiling import TileJob, tile_all
from wsi_pipeline.cases import Case, Slide, refuse_mixed_patients
from wsi_pipeline.cases.copies import is_copy
from wsi_pipeline.errors import PipelineError, StoreError
from wsi_pipeline.events import emit
from wsi_pipeline.settings import RunSettings
from wsi_pipeline.store.fingerprint import fingerprint
from wsi_pipeline.store.lock import locked
from wsi_pipeline.store.outcome import (
    NO_TISSUE,
    CaseOutcome,
    CaseStatus,
    SlideOutcome,
    read_outcome,
    write_outcome,
)
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.paths import CaseFolder
from wsi_pipeline.store.publish import opened_or_removed, sweep_partials

NO_SLIDE = "no slide could be read"


@dataclass
class Work:
    """A case while it is worked on.

    Attributes:
        names: fingerprint of each slide's patch store.
        outcomes: how each slide ended, filled as they end.
        stores: patches of the slides that are read.
        token_stores: paths of their tokens.
    """

    case: Case
    folder: CaseFolder
    settings: RunSettings
    model: Model
    names: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, SlideOutcome] = field(default_factory=dict)
    stores: dict[str, PatchStore] = field(default_factory=dict)
    token_stores: dict[str, Path] = field(default_factory=dict)


def run_case(case: Case, out: Path, settings: RunSettings, model: Model, wait_s: float = 0.0) -> CaseOutcome:
    """Bring a case up to date and return how it ended; never raises for what is wrong with slides or models.

    Raises:
        CaseBusyError: another process works on it.
        ModelError: there is work, and the checkpoint cannot do it on this machine.
        StoreError: OUT cannot be written at all.
    """
    folder = CaseFolder(out, case.id)
    emit("case.start", case=case.id, slides=len(case.slides))
    with locked(folder.lock, wait_s):
        sweep_partials(folder.path)
        work = Work(case, folder, settings, model)
        name_slides(work)
        request = _request(work)
        previous = _previous(folder)
        if previous is not None and _is_current(previous, request, folder) and not _retried(work, previous):
            _retain(work, previous)
            emit("case.done", case=case.id, status=previous.status, report=previous.report, current=True)
            return previous
        model.check()  # before the first tile, and only when there is work
        started = time.monotonic()
        try:
            outcome = _bring_up_to_date(work, request, started)
        except PipelineError as error:
            outcome = _ended(work, "failed", request, started, reason=str(error))
        except Exception as error:  # whatever it is, the other cases go on
            outcome = _ended(work, "failed", request, started, reason=unexpected(case, error))
        write_outcome(folder.outcome, outcome)
        _retain(work, outcome)
        emit(
            "case.done", case=case.id, status=outcome.status, report=outcome.report, reason=outcome.reason,
            current=False,
        )  # fmt: skip
        return outcome


def unexpected(case: Case, error: Exception) -> str:
    """The reason of what ends with an error of no kind of ours; where it came from is told as an event."""
    emit("case.error", case=case.id, traceback=traceback.format_exc())
    return f"unexpected {type(error).__name__}: {error}"[:500]


def is_current(work: Work) -> bool:
    """Whether a run would find nothing to do for a case whose slides are named."""
    previous = _previous(work.folder)
    return previous is not None and _is_current(previous, _request(work), work.folder)


def name_slides(work: Work) -> None:
    """Settle what needs no pixels: missing files, other stains, duplicates; name the others' stores."""
    seen: list[Slide] = []
    for slide in work.case.slides:
        if slide.missing:
            work.outcomes[slide.id] = SlideOutcome(
                slide=slide.id,
                status="failed",
                stage="find",
                reason="the manifest or a link names it, and it is not there",
            )
        elif not slide.is_he:
            work.outcomes[slide.id] = SlideOutcome(slide=slide.id, status="skipped", reason=f"not read: {slide.stain}")
        elif twin := next((other for other in seen if is_copy(slide, other)), None):
            work.outcomes[slide.id] = SlideOutcome(
                slide=slide.id, status="skipped", reason=f"duplicate of {twin.id}, byte for byte"
            )
        else:
            seen.append(slide)
            try:
                work.names[slide.id] = patches_fingerprint(slide, work.settings.tile)
            except PipelineError as error:
                work.outcomes[slide.id] = _failed(slide, "open", error)


def _failed(slide: Slide, stage: str, error: PipelineError) -> SlideOutcome:
    return SlideOutcome(slide=slide.id, status="failed", stage=stage, reason=error.reason)


def _request(work: Work) -> str:
    """Names everything that was asked for and found before any work: the same value means the same case."""
    return fingerprint(
        stage="case",
        algorithm=ALGORITHM,
        software=version("wsi-pipeline"),
        parts=[
            {"name": p.name, "tissue": p.tissue, "procedure": p.procedure, "context": p.context}
            | {"slides": [[s.id, s.stain, work.names.get(s.id)] for s in p.slides]}
            for p in work.case.parts
        ],
        settled=[work.outcomes[s].model_dump() for s in sorted(work.outcomes)],
        tile=work.settings.tile,
        model=work.settings.model,
        revision=work.model.revision,
        calibration=work.model.calibration,
        second_reader=work.model.second_reader_is,
        report=work.settings.report,
    )


def _previous(folder: CaseFolder) -> CaseOutcome | None:
    try:
        return read_outcome(folder.outcome)
    except StoreError:
        return None  # damaged: the case is simply done again


def _is_current(previous: CaseOutcome, request: str, folder: CaseFolder) -> bool:
    """Whether the same was asked for, ended, and its report is still there."""
    there = previous.report is None or (folder.path / previous.report / "report.json").is_file()
    return previous.fingerprint == request and there and (previous.status != "failed" or previous.reason == NO_SLIDE)


def _retried(work: Work, previous: CaseOutcome) -> bool:
    """Try slides that failed while tiling once more; whether one of them now ends differently."""
    before = {s.slide: s.reason for s in previous.slides if s.status == "failed" and s.stage == "tile"}
    jobs = [_job(slide, work) for slide in work.case.slides if slide.id in before and slide.id in work.names]
    differs = False
    try:
        for job, error in tile_all(jobs, work.settings.machine):
            differs |= error is None or error.reason != before[job.slide.id]
    except PipelineError:
        return True  # nobody could try: the case is brought up to date, or fails with that reason
    return differs


def _bring_up_to_date(work: Work, request: str, started: float) -> CaseOutcome:
    check_parts(work)
    tile_case(work)
    if not any(len(store) for store in work.stores.values()):
        if any(o.status == "failed" for o in work.outcomes.values()):
            return _ended(work, "failed", request, started, reason=NO_SLIDE)
        reasons = dict.fromkeys(str(o.reason) for o in work.outcomes.values())
        none = "no tissue was found on any slide" if list(reasons) == [NO_TISSUE] else "; ".join(reasons)
        return _ended(work, "no_tissue", request, started, reason=none)
    from workflows.reporting import encode_and_report, headlines

    report_folder, report = encode_and_report(work, started)
    complete = all(part.completeness.complete for part in report.parts)
    outcome = _ended(work, "done" if complete else "incomplete", request, started)
    relative = str(report_folder.relative_to(work.folder.path))
    return outcome.model_copy(update={"report": relative, "diagnoses": headlines(report)})


def check_parts(work: Work) -> None:
    """Refuse, before anything is tiled, a part of which the checkpoint could not read one patch: its instruction alone,
    or the answer asked for, is longer than a sequence.

    Raises:
        ModelError: the arithmetic.
    """
    if work.model.profile is None:
        return
    for part in work.case.parts:
        if first := next((slide.id for slide in part.slides if slide.id in work.names), None):
            work.model.plan(part, {first: 1}, work.settings)


def tile_case(work: Work) -> None:
    """Tile what has no store yet, and open every store.

    Raises:
        UsageError: the case mixes patients.
        StoreError: the disk refuses.
    """
    refuse_mixed_patients(work.case)
    jobs = []
    for slide in work.case.slides:
        if slide.id in work.outcomes:
            continue
        job = _job(slide, work)
        if opened_or_removed(job.final, PatchStore) is None:
            jobs.append(job)
    emit("tile.slides", case=work.case.id, total=len(jobs), kept=len(work.names) - len(jobs))
    for job, error in tile_all(jobs, work.settings.machine):
        if isinstance(error, StoreError):
            raise error
        if error is not None:
            work.outcomes[job.slide.id] = _failed(job.slide, "tile", error)
            emit("slide.failed", slide=job.slide.id, stage="tile", reason=error.reason)
    for slide in work.case.slides:
        if slide.id not in work.outcomes:
            store = PatchStore(work.folder.patches(slide.id, work.names[slide.id]))
            work.stores[slide.id] = store
            work.outcomes[slide.id] = _read(slide, store)


def _job(slide: Slide, work: Work) -> TileJob:
    name = work.names[slide.id]
    return TileJob(slide, work.settings.tile, work.folder.patches(slide.id, name), name)


def _read(slide: Slide, store: PatchStore) -> SlideOutcome:
    facts = store.facts
    read = SlideOutcome(
        slide=slide.id,
        status="done",
        patches=len(store),
        unreadable=facts.patches_unreadable,
        disagreeing=facts.patches_disagreeing,
        tissue_left=facts.tissue_left,
    )
    if len(store):
        return read
    reason = next((w for w in facts.warnings if w.startswith("dark background")), NO_TISSUE)
    return read.model_copy(update={"status": "no_tissue", "reason": reason})


def _ended(work: Work, status: CaseStatus, request: str, started: float, reason: str | None = None) -> CaseOutcome:
    rows = tuple(
        work.outcomes.get(s.id) or SlideOutcome(slide=s.id, status="failed", stage="case", reason="not reached")
        for s in work.case.slides
    )
    return CaseOutcome(
        case=work.case.id,
        status=status,
        reason=reason,
        fingerprint=request,
        slides=rows,
        finished=now(),
        seconds=round(time.monotonic() - started, 2),
    )


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _retain(work: Work, outcome: CaseOutcome) -> None:
    """Patient pixels do not pile up unasked: drop what `--retain` does not name, once a report is published."""
    if outcome.report is None or work.settings.retain == "all":
        return
    dropped = ["patches-*.zarr", "tokens-*.zarr"] if work.settings.retain == "reports" else ["patches-*.zarr"]
    for pattern in dropped:
        for path in work.folder.path.glob(f"slides/*/{pattern}"):
            shutil.rmtree(path, ignore_errors=True)
