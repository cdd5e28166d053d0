"""Read phantom parts of all contrasts: how likely was each answer, and was it right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reporters.confidence import PHANTOM_DOMAIN, SIGNS, Calibration, Circumstances, Signs
from reporters.schema import PartReport
from reporters.training.calibration import fit_calibration
from tilers.tile import ALGORITHM
from workflows.phantom.drawing.cohort import PhantomCase, draw_case
from workflows.phantom.measuring.processes import single_core_processes
from workflows.phantom.measuring.reading import read_case, written_case
from workflows.phantom.measuring.reports import WHOLE
from workflows.phantom.measuring.said import answered_in_report
from workflows.phantom.measuring.scoring import NOTHING, score
from workflows.phantom.seeds import Split
from wsi_pipeline.errors import ModelError
from wsi_pipeline.events import emit
from wsi_pipeline.models import find_checkpoint, pick_device, resolve_dtype
from wsi_pipeline.models.checkpoint import second_reader_of
from wsi_pipeline.settings import ModelSettings, ReportSettings, RunSettings

CONTRASTS = (1.0, 0.7, 0.5, 0.35)
"""From as drawn to where most lesions are missed: about three answers in four are right."""
SAMPLES = 4
"""Drawn beside each answer."""
ABSTAINING = 0.4
"""Below this chance a model abstains; nine of ten such answers were wrong (decision 24)."""
SLIDES = (1, 2, 3, 5, 8, 12)
"""Of a part."""


@dataclass(frozen=True)
class Answer:
    """One part as it was read.

    Attributes:
        contrast: of its lesions, if it has any.
        slides: how many.
        signs: of the answer; its log-probability is minus infinity where there is none.
        chance: what the calibration makes of it; None without.
        exact: all diagnoses with their grades and no other.
        diseased, malignant: the part is.
        called_benign: a malignant part is said to hold no malignant diagnosis.
        plan, tokens_per_patch: how it was read; None where it was not.
    """

    contrast: float
    slides: int
    signs: Signs
    chance: float | None
    exact: bool
    diseased: bool
    malignant: bool
    called_benign: bool
    plan: str | None
    tokens_per_patch: int | None


def read_answers(
    work: Path,
    split: Split,
    seed: int,
    parts: int,
    model: str,
    workers: int = 2,
    contrasts: Sequence[float] = CONTRASTS,
    samples: int | None = None,
    keep: bool = False,
) -> Iterator[Answer]:
    """From slide files to reports.

    Args:
        work: folder for slides and results.
        split, seed: of the first case.
        parts: how many, of all contrasts in turn, and of all `SLIDES`.
        model: checkpoint.
        workers: processes.
        contrasts: of the lesions.
        samples: drawn beside each answer; None for as many as the checkpoint's calibration takes.
        keep: slides and stores, for another model to read; else each case is deleted once read.
    """
    turns = [(contrasts[n % len(contrasts)], SLIDES[n // len(contrasts) % len(SLIDES)]) for n in range(parts)]
    cases = [draw_case(seed + n, split, slides=s, contrast=c) for n, (c, s) in enumerate(turns)]
    with single_core_processes(workers) as pool:
        settings = RunSettings(model=ModelSettings(name=model), report=ReportSettings(samples=samples))
        read = pool.map(_read, [work] * parts, cases, [c for c, _ in turns], [settings] * parts, [keep] * parts)
        for done, answer in enumerate(read, 1):
            emit("phantom.read", done=done, total=parts)
            yield answer


def _read(work: Path, truth: PhantomCase, contrast: float, settings: RunSettings, keep: bool) -> Answer:
    with written_case(work, truth, keep) as folder:
        read = read_case(folder, settings)
    (true,) = truth.parts
    part = read.report.parts[0] if read.report else None
    said = answered_in_report(part, [s.id for s in read.case.slides]) if part else NOTHING
    found = score(WHOLE, said, true)
    plan = part.plan if part else None
    return Answer(
        contrast=contrast,
        slides=len(true.slides),
        signs=_signs(part),
        chance=part.confidence.chance if part and part.confidence else None,
        exact=found.exact,
        diseased=not found.benign,
        malignant=found.malignant,
        called_benign=found.called_benign,
        plan=plan.strategy if plan else None,
        tokens_per_patch=plan.tokens_per_patch if plan else None,
    )


def _signs(part: PartReport | None) -> Signs:
    if part is None or part.logprob is None:
        return Signs(-math.inf, None, False)
    slides = len(part.plan.slides) if part.plan else 1
    return Signs(part.logprob, part.agreement, bool(part.seen_on), part.backing, slides)


def calibrate(work: Path, model: str, parts: int, workers: int = 2, keep: bool = False) -> Calibration:
    """A calibration of a checkpoint for phantoms, on parts of the calibration seeds.

    Args:
        work, workers, keep: as for `read_answers`.
        model: checkpoint.
        parts: how many.

    Raises:
        ModelError: it concluded nothing, or read them by several plans.
    """
    read = read_answers(work, "calibration", 500_000, parts, model, workers, samples=SAMPLES, keep=keep)
    answers = [a for a in read if math.isfinite(a.signs.logprob) and a.signs.agreement is not None]
    if not answers:
        raise ModelError(f"model {model!r}", "concluded nothing about any part", "train it for longer")
    plans = sorted({str(a.plan) for a in answers})
    if len(plans) > 1:
        reason = f"read parts by the plans {' and '.join(plans)}; a calibration holds for one"
        raise ModelError(f"model {model!r}", reason, "calibrate a checkpoint whose context holds twelve slides")
    return fit_calibration(
        [a.signs for a in answers],
        [a.exact for a in answers],
        made_for=Circumstances(
            revision=find_checkpoint(model).revision,
            signs=SIGNS,
            dtype=resolve_dtype("auto", pick_device()),
            tiling=ALGORITHM,
            plan=plans[0],
            samples=SAMPLES,
            second_reader=second_reader_of(find_checkpoint(model).folder) if plans == ["joint"] else None,
            domain=PHANTOM_DOMAIN,
        ),
        tokens_per_patch=[a.tokens_per_patch for a in answers if a.tokens_per_patch],
        most_slides=max(a.slides for a in answers),
        threshold=ABSTAINING,
    )
