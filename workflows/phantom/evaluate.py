"""Measure the whole instrument on fresh phantom cases: from slide files, through `run`, to report text."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from reporters.schema import PartReport, Report
from workflows.phantom.cohort import MAX_SLIDES, PhantomCase, draw_case, write_cases
from workflows.run import run
from wsi_pipeline.cases import Case, Part, discover
from wsi_pipeline.settings import ModelSettings, RunSettings
from wsi_pipeline.store.paths import CaseFolder

BUCKETS = {"1": (1, 1), "2-5": (2, 5), "6-12": (6, MAX_SLIDES)}


@dataclass(frozen=True)
class Score:
    """One report against its truth.

    Attributes:
        exact: specimen and diagnosis word for word.
        slides_named: exactly the slides that show the diagnosis are named.
        malignant: whether the truth is; `called_benign`: whether a malignant one was called benign.
    """

    bucket: str
    exact: bool
    slides_named: bool
    malignant: bool
    called_benign: bool


def measure(
    work: Path, seed: int, cases: int, model: str = "phantom", workers: int = 2
) -> Iterator[tuple[Score, Score]]:
    """Make, run and score cases, a third per bucket; each with the whole case and with one random slide of it.

    Args:
        work: folder for slides and results; each case is deleted once scored.
        seed: first seed within the test split.
        cases: how many, shared out over `BUCKETS` in turn.
        model: checkpoint.
        workers: processes.
    """
    drawn = [_draw(seed + n, list(BUCKETS)[n % len(BUCKETS)]) for n in range(cases)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(_measure_one, [work] * cases, drawn, [model] * cases)


def _draw(seed: int, bucket: str) -> tuple[str, PhantomCase]:
    low, high = BUCKETS[bucket]
    slides = int(np.random.default_rng([seed, 11]).integers(low, high + 1))
    return bucket, draw_case(seed, "test", slides=slides)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _measure_one(work: Path, drawn: tuple[str, PhantomCase], model: str) -> tuple[Score, Score]:
    bucket, truth = drawn
    folder = work / truth.id
    write_cases(folder / "slides", [truth])
    (case,) = discover(folder / "slides", "folders")
    picked = int(np.random.default_rng([truth.slides[0].seed, 13]).integers(len(case.slides)))
    single = Case(f"{case.id}-one", (Part(None, (case.slides[picked],)),))
    settings = RunSettings(model=ModelSettings(name=model))
    reports = []
    for outcome in run([case, single], folder / "out", settings):
        path = CaseFolder(folder / "out", outcome.case).path / str(outcome.report) / "report.json"
        reports.append(Report.model_validate_json(path.read_text()) if outcome.report else None)
    shutil.rmtree(folder)
    return score(reports[0], truth, bucket), score(reports[1], truth, bucket)


def score(report: Report | None, truth: PhantomCase, bucket: str) -> Score:
    """Compare a report with its truth; no report, and no diagnosis, is wrong."""
    part: PartReport | None = report.parts[0] if report else None
    said = " ".join(s.text for s in part.diagnosis) if part else ""
    specimen = f"{truth.organ.name}, {truth.organ.procedure}"
    names = [slide.id for slide in report.slides] if report else []
    expected = {n for n, shown in enumerate(truth.lesion_on) if shown or not any(truth.lesion_on)}
    named = {names.index(s) for s in part.seen_on} if part else set()
    malignant = truth.diagnosis.malignant
    benign_words = {d.text for d in truth.organ.diagnoses if not d.malignant}
    return Score(
        bucket=bucket,
        exact=part is not None and part.specimen == specimen and said == truth.diagnosis.text,
        slides_named=len(names) == len(truth.slides) and named == expected,
        malignant=malignant,
        called_benign=malignant and said in benign_words,
    )


def table(scores: Iterable[Score]) -> dict[str, dict[str, Any]]:
    """Rates by bucket; `low` and `high` are the 95 % Wilson interval of `exact`."""
    rows = list(scores)
    return {bucket: _rates([s for s in rows if s.bucket == bucket]) for bucket in BUCKETS}


def _rates(scores: Sequence[Score]) -> dict[str, Any]:
    n = len(scores)
    if not n:
        return {"n": 0, "exact": None, "low": None, "high": None, "slides_named": None, "malignant_called_benign": None}
    right = sum(s.exact for s in scores)
    interval = binomtest(right, n).proportion_ci(method="wilson")
    malignant = [s for s in scores if s.malignant]
    return {
        "n": n,
        "exact": round(right / n, 4),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
        "slides_named": round(sum(s.slides_named for s in scores) / n, 4),
        "malignant_called_benign": round(sum(s.called_benign for s in malignant) / max(len(malignant), 1), 4),
    }
