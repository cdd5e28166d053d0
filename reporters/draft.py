"""Draft one part: run its plan through a writer, window by window, and merge what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from reporters.agreement import agreement, of_all
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
    progress = _Progress(part.title, len(plan.windows) + bool(plan.second_look))
    if plan.second_look:
        once = settings.model_copy(update={"samples": 0})
        ((draft, seen),) = _read(plan, instruction, writer, places, tokens, once, progress)
        weights = _looked_at(draft, seen)
        plan = look_again(plan, weights, writer.profile, writer.grammar, instruction, settings)
    read = _read(plan, instruction, writer, places, tokens, settings, progress)
    progress.tell(0)
    draft_from = _draft_lines if writer.profile.answer == "lines" else _draft_text
    return replace(draft_from(part, plan, read, writer, settings), plan=plan)


_Read = tuple[Draft, list[PatchPlace]]
"""What was written about a window, and where its patches lie."""
_GAP = 16
"""Patches that are read along with those on either side rather than in two reads."""


@dataclass
class _Progress:
    """Tells how many of a part's sequences are read."""

    part: str
    total: int
    done: int = 0

    def tell(self, tokens: int) -> None:
        """The next one has so many tokens; 0 for no next one."""
        emit("write.window", part=self.part, done=self.done, total=self.total, tokens=tokens)
        self.done += 1


def _read(
    plan: PartPlan,
    instruction: str,
    writer: Writer,
    places: Mapping[str, Sequence[PatchPlace]],
    tokens: Mapping[str, TokenStore],
    settings: ReportSettings,
    progress: _Progress,
) -> list[_Read]:
    grammar = writer.grammar.laid_out(plan.slide_markers, plan.coordinates)
    read: list[_Read] = []
    for window in plan.windows:
        progress.tell(window.tokens)
        where = [[places[share.slide][i] for i in share.patches] for share in window.slides]
        written = [[place.mm for place in slide] for slide in where] if plan.coordinates else None
        sequence = grammar.sequence(plan.grids(window), instruction, places=written)
        read_tokens = window_tokens(plan, window, tokens)
        draft = writer.write(sequence, read_tokens, settings.max_new_tokens, settings.samples or 0, settings.seed)
        read.append((draft, [place for slide in where for place in slide]))
    return read


def _looked_at(draft: Draft, places: Sequence[PatchPlace]) -> dict[str, NDArray[np.float32]] | None:
    """Per slide how much attention its patches got over a whole answer; None where that is not known."""
    if draft.attention is None:
        return None
    total = draft.attention.sum(0)
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
        draft = read[0][0]
        return PartDraft(
            only.sentences, reason, unparsed=cut_note(draft), logprob=draft.logprob, truncated=draft.truncated
        )
    return _with_windows(merge_texts(part, findings, writer, settings), read)


def _with_windows(merged: PartDraft, read: Sequence[_Read]) -> PartDraft:
    """A merged draft is as likely, and as sure, as its own text and those of all windows it rests on."""
    if merged.logprob is None:
        return merged
    return replace(
        merged,
        logprob=merged.logprob + sum(draft.logprob for draft, _ in read),
        agreement=of_all([merged.agreement, *(agreement(draft) for draft, _ in read)]),
    )


def _places(store: PatchStore) -> list[PatchPlace]:
    facts = store.facts
    mm = facts.mpp / 1000
    return [
        PatchPlace(facts.slide_id, i, int(x), int(y), facts.patch_level0, (x * mm, y * mm))
        for i, (x, y) in enumerate(store.coords)
    ]


def window_tokens(plan: PartPlan, window: Window, stores: Mapping[str, TokenStore]) -> ReadTokens:
    """Those of a window's patches, read from the slides' stores stretch by stretch."""
    grids = [t for slide in plan.grids(window) for t in slide]
    slides = [(share.slide, patch) for share in window.slides for patch in share.patches]
    places = [(slide, t, patch) for (slide, patch), t in zip(slides, grids, strict=True)]

    def read(first: int, last: int) -> NDArray[np.float32]:
        parts = []
        for (slide, per_patch), group in groupby(places[first:last], key=itemgetter(0, 1)):
            rows = _rows(stores[slide], np.array([patch for _, _, patch in group]), per_patch)
            parts.append(rows.reshape(-1, rows.shape[2]))
        return np.concatenate(parts)

    return read


def _rows(store: TokenStore, patches: NDArray[np.int64], per_patch: int) -> NDArray[np.float32]:
    """(n, T, D) of these patches, in their order: neighbours together, and nothing that lies between others."""
    wanted, place = np.unique(patches, return_inverse=True)
    stretches = np.split(wanted, np.flatnonzero(np.diff(wanted) > _GAP) + 1)
    rows = [store.read(int(s[0]), int(s[-1]) + 1, per_patch)[s - s[0]] for s in stretches]
    return np.concatenate(rows)[place]
