"""The main job: many cases, one after the other; one bad case does not stop the night."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reporters.render.index import render_index
from workflows.case import NO_SLIDE, run_case
from workflows.checkpoints import Model
from wsi_pipeline.cases import Case
from wsi_pipeline.errors import CaseBusyError, StoreError, UsageError
from wsi_pipeline.events import emit
from wsi_pipeline.settings import RunSettings
from wsi_pipeline.store.outcome import CaseOutcome, read_outcome
from wsi_pipeline.store.paths import case_folders, index_page
from wsi_pipeline.store.publish import ensure_writable, write_text

EXIT_DONE, EXIT_CASE_FAILED, EXIT_USAGE, EXIT_SLIDES_FAILED = 0, 1, 2, 3


def run(cases: Sequence[Case], out: Path, settings: RunSettings, wait_s: float = 0.0) -> list[CaseOutcome]:
    """Bring every case up to date below `out`.

    Args:
        cases: what to report.
        out: where everything goes.
        settings: all of it.
        wait_s: how long to wait for a case that another process works on; then it is skipped.

    Raises:
        UsageError: two cases of one id; nothing is started.
        ModelError: the checkpoint cannot be had or does not fit; nothing is started.
        StoreError: `out` cannot be written.
    """
    check_cases(cases)
    ensure_writable(out)
    model = Model(settings.model, settings.machine.batch_size)
    settings = model.adapt(settings)
    outcomes = []
    for number, case in enumerate(cases, 1):
        emit("run.case", number=number, total=len(cases), case=case.id)
        try:
            outcomes.append(run_case(case, out, settings, model, wait_s))
        except CaseBusyError as error:
            outcomes.append(CaseOutcome(case=case.id, status="skipped", reason=error.reason))
            emit("case.done", case=case.id, status="skipped", report=None, reason=error.reason, current=False)
        except StoreError as error:
            outcomes.append(CaseOutcome(case=case.id, status="failed", reason=str(error)))
            emit("case.done", case=case.id, status="failed", report=None, reason=str(error), current=False)
    write_index(out)
    return outcomes


def check_cases(cases: Sequence[Case]) -> None:
    """Refuse cases that share an id.

    Raises:
        UsageError: naming it.
    """
    seen: set[str] = set()
    for case in cases:
        # some file systems do not tell case or normal form apart
        key = case.id.casefold()
        if key in seen:
            raise UsageError(f"case {case.id!r}", "is the id of two cases", "give each case its own id")
        seen.add(key)


def exit_code(outcomes: Sequence[CaseOutcome]) -> int:
    """0 all done · 3 reports made but some slides failed · 1 a case failed, or no report came of failed slides.

    A case all of whose slides failed counts by its slides: the others' reports were made.
    """
    slides_failed = any(s.status == "failed" or s.unreadable for o in outcomes for s in o.slides)
    own_fault = any(o.status == "failed" and not _only_slides_failed(o) for o in outcomes)
    if own_fault or any(o.status == "skipped" for o in outcomes):
        return EXIT_CASE_FAILED
    if slides_failed:
        return EXIT_SLIDES_FAILED if any(o.report for o in outcomes) else EXIT_CASE_FAILED
    return EXIT_DONE


def _only_slides_failed(outcome: CaseOutcome) -> bool:
    return outcome.reason == NO_SLIDE


def read_outcomes(out: Path) -> list[CaseOutcome]:
    """The last outcome of every case below `out`; a damaged one reads as failed."""
    outcomes = []
    for folder in case_folders(out):
        try:
            outcome = read_outcome(folder.outcome)
        except StoreError as error:
            outcome = CaseOutcome(case=folder.case_id, status="failed", reason=str(error))
        outcomes.append(outcome or CaseOutcome(case=folder.case_id, status="skipped", reason="no run has ended"))
    return outcomes


def write_index(out: Path) -> Path:
    """Write `OUT/index.html`."""
    page = index_page(out)
    write_text(page, render_index(read_outcomes(out)))
    return page
