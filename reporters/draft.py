"""Draft one part: run its plan through a writer, window by window, and merge what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from reporters.answers import PartDraft, cut_note, from_lines, from_text
from reporters.evidence import PatchPlace
from reporters.instructions import instruction_for
from reporters.merging import merge_lines, merge_texts
from reporters.plan import PartPlan, Window
from reporters.planning import look_again
from reporters.sequence import ReadTokens
from reporters.writer import Draft, Writer
from wsi_pipeline.cases import Part
from wsi_pipeline.events import emit
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
    places = {slide: _places(store) for slide, store in patches.items()}
    if plan.second_look:
        ((draft, seen),) = _read(part, plan, writer, places, tokens, settings)
        weights = _looked_at(draft, seen)
        plan = look_again(plan, weights, writer.profile, writer.grammar, instruction, settings)
    read = _read(part, plan, writer, places, tokens, settings)
    draft_from = _draft_lines if writer.profile.answer == "lines" else _draft_text
    return replace(draft_from(part, plan, read, writer, settings), plan=plan)


_Read = tuple[Draft, list[PatchPlace]]
"""What was written about a window, and where its patches lie."""


def _read(
    part: Part,
    plan: PartPlan,
    writer: Writer,
    places: Mapping[str, Sequence[PatchPlace]],
    tokens: Mapping[str, TokenStore],
    settings: ReportSettings,
) -> list[_Read]:
    instruction = instruction_for(writer.profile, part)
    read: list[_Read] = []
    for number, window in enumerate(plan.windows, 1):
        emit("write.window", part=part.title, done=number - 1, total=len(plan.windows), tokens=window.tokens)
        sequence = writer.grammar.sequence(plan.grids(window), instruction)
        draft = writer.write(sequence, window_tokens(plan, window, tokens), settings.max_new_tokens)
        read.append((draft, [places[share.slide][i] for share in window.slides for i in share.patches]))
    emit("write.window", part=part.title, done=len(plan.windows), total=len(plan.windows), tokens=0)
    return read


def _looked_at(draft: Draft, places: Sequence[PatchPlace]) -> dict[str, NDArray[np.float32]]:
    """Per slide how much attention its patches got over a whole answer."""
    total = np.zeros(len(places), np.float32) if draft.attention is None else draft.attention.sum(0)
    slides = np.array([place.slide for place in places])
    return {str(slide): total[slides == slide] for slide in dict.fromkeys(slides.tolist())}


def _draft_lines(
    part: Part, plan: PartPlan, read: Sequence[_Read], writer: Writer, settings: ReportSettings
) -> PartDraft:
    """From answers in lines: the only one, or the conclusions of several merged."""
    drafts = [
        from_lines(*answer, window, settings.evidence_patches)
        for answer, window in zip(read, plan.windows, strict=True)
    ]
    if len(drafts) == 1:
        return drafts[0]
    return _with_windows(merge_lines(part, plan.windows, drafts, writer, settings), read)


def _draft_text(
    part: Part, plan: PartPlan, read: Sequence[_Read], writer: Writer, settings: ReportSettings
) -> PartDraft:
    """From answers in free text: the only one, or several merged."""
    findings = [
        from_text(f"F{n}", window, draft, where, settings.evidence_patches)
        for n, (window, (draft, where)) in enumerate(zip(plan.windows, read, strict=True), 1)
    ]
    if len(findings) == 1:
        only = findings[0]
        reason = None if only.sentences else "the checkpoint wrote nothing"
        return PartDraft(only.sentences, reason, unparsed=cut_note(read[0][0]), logprob=read[0][0].logprob)
    return _with_windows(merge_texts(part, findings, writer, settings), read)


def _with_windows(merged: PartDraft, read: Sequence[_Read]) -> PartDraft:
    """A merged draft is as likely as its own text and those of all windows it rests on."""
    if merged.logprob is None:
        return merged
    return replace(merged, logprob=merged.logprob + sum(draft.logprob for draft, _ in read))


def _places(store: PatchStore) -> list[PatchPlace]:
    facts = store.facts
    return [PatchPlace(facts.slide_id, i, int(x), int(y), facts.patch_level0) for i, (x, y) in enumerate(store.coords)]


def window_tokens(plan: PartPlan, window: Window, stores: Mapping[str, TokenStore]) -> ReadTokens:
    """Those of a window's patches, read from the slides' stores stretch by stretch."""
    grids = [t for slide in plan.grids(window) for t in slide]
    slides = [(share.slide, patch) for share in window.slides for patch in share.patches]
    places = [(slide, t, patch) for (slide, patch), t in zip(slides, grids, strict=True)]

    def read(first: int, last: int) -> NDArray[np.float32]:
        parts = []
        for (slide, per_patch), group in groupby(places[first:last], key=itemgetter(0, 1)):
            patches = np.array([patch for _, _, patch in group])
            rows = stores[slide].read(int(patches[0]), int(patches[-1]) + 1, per_patch)
            parts.append(rows[patches - patches[0]].reshape(-1, rows.shape[2]))
        return np.concatenate(parts)

    return read
