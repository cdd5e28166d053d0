"""The reporting stage: drafts, completeness and measurements of a case become one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reporters.answers import PartDraft
from reporters.measurements import slide_report
from reporters.plan import PartPlan
from reporters.safety import is_negative, withhold
from reporters.schema import Completeness, Confidence, Finding, PartReport, Provenance, Report, Run, Sentence
from wsi_pipeline.cases import Case, Part
from wsi_pipeline.store.outcome import NO_TISSUE, SlideOutcome
from wsi_pipeline.store.patches import MOST_LEFT, PatchStore

UNSURE = "the model abstains, it is not sure enough of its answer"
_ROUNDING = 0.01
"""Patches are chosen by exact areas, and what they leave is counted in whole pixels of the overview."""
_HARMLESS = ("duplicate of", "not read:", NO_TISSUE)


def make_report(
    case: Case,
    outcomes: Mapping[str, SlideOutcome],
    stores: Mapping[str, PatchStore],
    drafts: Sequence[PartDraft],
    completeness: Sequence[Completeness],
    confidences: Sequence[Confidence | None],
    provenance: Provenance,
    run: Run,
) -> Report:
    """Fill the schema. `drafts`, `completeness` and `confidences` are in the order of the case's parts."""
    return Report(
        case=case.id,
        phantom=bool(stores) and all(store.facts.phantom for store in stores.values()),
        parts=tuple(_part_report(*part) for part in zip(case.parts, drafts, completeness, confidences, strict=True)),
        slides=tuple(slide_report(s, outcomes[s.id], stores.get(s.id)) for s in case.slides),
        provenance=provenance,
        run=run,
    )


def completeness_of(
    part: Part, outcomes: Mapping[str, SlideOutcome], plan: PartPlan | None, allow_incomplete: bool = False
) -> Completeness:
    """What of a part was read, and a line for everything that was not.

    A failed slide, a dark field, an undecodable region, tissue in no patch or a sample of patches leaves the part
    incomplete; another stain, a duplicate, a slide without tissue or one with a mask is named and does not.
    """
    rows = [(slide, outcomes[slide.id]) for slide in part.slides]
    gaps, complete = [], True
    for slide, outcome in rows:
        if outcome.status == "failed":
            complete = False
            gaps.append(f"{slide.id}: failed ({outcome.reason})")
        elif outcome.status in ("skipped", "no_tissue"):
            gaps.append(f"{slide.id}: {outcome.reason or NO_TISSUE}")
            complete &= str(outcome.reason).startswith(_HARMLESS)
        if undecodable := outcome.unreadable - outcome.disagreeing:
            complete = False
            gaps.append(f"{slide.id}: {undecodable} patches do not decode and were left out")
        if outcome.disagreeing:
            complete = False
            gaps.append(f"{slide.id}: {outcome.disagreeing} patches differ from coarser levels and were left out")
        if outcome.tissue_left > MOST_LEFT + _ROUNDING:
            complete = False
            gaps.append(f"{slide.id}: {outcome.tissue_left:.0%} of its tissue lies in no patch (--min-tissue)")
        if slide.mask:
            gaps.append(f"{slide.id}: only what is drawn in {slide.mask.name} was looked at")
    failed = [slide.id for slide, outcome in rows if outcome.status == "failed"]
    planned = plan.slides if plan else frozenset()
    unplanned = [s.id for s, outcome in rows if plan and outcome.patches and s.id not in planned]
    empty = [s.id for s, outcome in rows if outcome.reason == NO_TISSUE]
    slides_read = len(planned) + len(empty)
    found = sum(outcome.patches for _, outcome in rows)
    read = plan.patches_read if plan else 0
    poor = plan.patches_left_out if plan else 0
    if poor:
        complete = False
        gaps.append(f"{poor} of {found} patches were left out for their quality (--leave-out)")
    if plan and read + poor < found:
        complete = False
        gaps.append(f"{found - read - poor} of {found} patches were left out by the plan")
    gaps += [f"{slide}: none of its patches was read" for slide in unplanned]
    return Completeness(
        slides=len(rows),
        slides_read=slides_read,
        patches_found=found,
        patches_read=read,
        patches_unreadable=sum(outcome.unreadable for _, outcome in rows),
        complete=complete,
        negatives_kept=allow_incomplete and not complete,
        gaps=tuple(gaps),
        addendum=None if complete else _addendum(failed, slides_read, len(rows)),
    )


def _addendum(failed: Sequence[str], read: int, slides: int) -> str:
    if not failed:
        return "This draft rests on less than the whole part. An addendum has to follow when the rest can be read."
    missing = ", ".join(failed)
    return f"This draft rests on {read} of {slides} slides. An addendum has to follow when {missing} can be read."


def _part_report(part: Part, draft: PartDraft, completeness: Completeness, confidence: Confidence | None) -> PartReport:
    def checked_finding(finding: Finding) -> Finding:
        return finding.model_copy(update={"sentences": withhold(finding.sentences, completeness)})

    def checked_texts(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(s.text for s in withhold([Sentence(text=t, method="none") for t in texts], completeness))

    specimen = checked_texts([draft.specimen] if draft.specimen else [])
    diagnosis = withhold(draft.diagnosis, completeness)
    kept = not any(s.withheld for s in diagnosis)
    unsure = confidence is not None and confidence.abstained
    return PartReport(
        name=part.name,
        title=part.title,
        tissue=part.tissue,
        procedure=part.procedure,
        context=part.context,
        specimen=specimen[0] if specimen else None,
        diagnosis=() if unsure else diagnosis,
        no_diagnosis=UNSURE if unsure else draft.no_diagnosis,
        leaning=diagnosis if unsure else (),
        findings=tuple(checked_finding(f) for f in draft.findings),
        remarks=tuple(r for r in draft.remarks if kept or not is_negative(r)),
        confidence=confidence,
        logprob=draft.logprob if draft.logprob is None else round(draft.logprob, 4),
        agreement=draft.agreement if draft.agreement is None else round(draft.agreement, 4),
        backing=draft.backing if draft.backing is None else round(draft.backing, 4),
        completeness=completeness,
        plan=draft.plan,
        unparsed=checked_texts(draft.unparsed),
    )
