"""Draft one part: run its plan through a writer, window by window, and merge what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from reporters.agreement import agreement, of_all
from reporters.answers import PartDraft, cut_note, from_lines, from_text
from reporters.evidence import PatchPlace
from reporters.instructions import instruction_for
from reporters.merging import merge_lines, merge_texts
from reporters.plan import PartPlan
from reporters.planning import look_again
from reporters.reading import PartReader, Progress, Read, places_of
from reporters.search import draft_searched
from reporters.writer import Draft, Writer
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ReportSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore


def draft_part(
    part: Part,
    plan: PartPlan,
    writer: Writer,
    patches: Mapping[str, PatchStore],
    tokens: Mapping[str, TokenStore],
    settings: ReportSettings,
) -> PartDraft:
    """Read every window of the plan and write the part's draft."""
    instruction = instruction_for(writer.profile, part)
    places = {slide: places_of(store) for slide, store in patches.items()}
    progress = Progress(part.title, len(plan.sequences) + bool(plan.second_look))
    reader = PartReader(plan, instruction, writer, places, tokens, settings, progress)
    if plan.strategy == "search":
        draft = draft_searched(reader)
        progress.tell(0)
        return draft
    if plan.second_look:
        ((first, seen),) = reader.changed(samples=0).read(plan.windows)
        plan = look_again(plan, _looked_at(first, seen), writer.profile, writer.grammar, instruction, settings)
        reader = reader.changed(plan=plan)
    read = reader.read(plan.windows)
    progress.tell(0)
    draft_from = _draft_lines if writer.profile.answer == "lines" else _draft_text
    return replace(draft_from(part, plan, read, writer, settings), plan=plan)


def _looked_at(draft: Draft, places: Sequence[PatchPlace]) -> dict[str, NDArray[np.float32]] | None:
    """Per slide how much attention its patches got over a whole answer; None where that is not known."""
    if draft.attention is None:
        return None
    total = draft.attention.sum(0)
    slides = np.array([place.slide for place in places])
    return {str(slide): total[slides == slide] for slide in dict.fromkeys(slides.tolist())}


def _draft_lines(
    part: Part, plan: PartPlan, read: Sequence[Read], writer: Writer, settings: ReportSettings
) -> PartDraft:
    """From answers in lines: the only one, or the conclusions of several merged."""
    drafts = [
        from_lines(*answer, window, settings.evidence_patches)
        for answer, window in zip(read, plan.windows, strict=True)
    ]
    if len(drafts) == 1:
        return drafts[0]
    merged = merge_lines(part, plan.windows, drafts, writer, settings)
    return _with_windows(merged, read, sum(draft.logprob or 0.0 for draft in drafts))


def _draft_text(
    part: Part, plan: PartPlan, read: Sequence[Read], writer: Writer, settings: ReportSettings
) -> PartDraft:
    """From answers in free text: the only one, or several merged."""
    findings = [
        from_text(f"F{n}", window, draft, where, settings.evidence_patches)
        for n, (window, (draft, where)) in enumerate(zip(plan.windows, read, strict=True), 1)
    ]
    if len(findings) == 1:
        only = findings[0]
        reason = None if only.sentences else "the checkpoint wrote nothing"
        draft = read[0][0]
        return PartDraft(
            only.sentences, reason, unparsed=cut_note(draft), logprob=draft.logprob, truncated=draft.truncated
        )
    merged = merge_texts(part, findings, writer, settings)
    return _with_windows(merged, read, sum(draft.logprob for draft, _ in read))


def _with_windows(merged: PartDraft, read: Sequence[Read], logprob: float) -> PartDraft:
    """A merged draft is as likely, and as sure, as its own text and those of all windows it rests on."""
    if merged.logprob is None:
        return merged
    return replace(
        merged,
        logprob=merged.logprob + logprob,
        agreement=of_all([merged.agreement, *(agreement(draft) for draft, _ in read)]),
    )
