"""Merge what several windows of a part say: their findings, in lines or in free text, become one diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reporters.answers import CUT, PartDraft
from reporters.merge_pass import Told, in_rounds, unmerged
from reporters.plan import Window
from reporters.schema import Finding, Sentence
from reporters.writer import Writer
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ReportSettings


def merge_lines(
    part: Part, windows: Sequence[Window], drafts: Sequence[PartDraft], writer: Writer, settings: ReportSettings
) -> PartDraft:
    """Merge the conclusions of windows that were answered in lines; what they say of single slides stays beside it."""
    numbered = list(enumerate(zip(windows, drafts, strict=True), 1))
    told = [Told(_as_finding(f"F{n}", window, draft), draft.specimen) for n, (window, draft) in numbered]
    silent = [f"F{n}" for n, (_, draft) in numbered if not draft.diagnosis]
    merged = _silent(told, silent) if silent else in_rounds(part, told, writer, settings)
    slides = [finding for n, (window, draft) in numbered for finding in _of_slides(n, window, draft)]
    return replace(
        merged,
        findings=(*merged.findings, *slides),
        remarks=(*merged.remarks, *(remark for draft in drafts for remark in draft.remarks)),
        unparsed=(*merged.unparsed, *(f"F{n}: {text}" for n, (_, draft) in numbered for text in draft.unparsed)),
        truncated=merged.truncated or any(draft.truncated for draft in drafts),
    )


def merge_texts(part: Part, findings: list[Finding], writer: Writer, settings: ReportSettings) -> PartDraft:
    """Merge findings in free text."""
    told = [Told(finding) for finding in findings]
    if silent := [f.id for f in findings if not f.sentences]:
        return _silent(told, silent)
    merged = in_rounds(part, told, writer, settings)
    cut = tuple(f"{f.id}: {CUT}" for f in findings if f.truncated)
    return replace(merged, unparsed=(*merged.unparsed, *cut), truncated=merged.truncated or bool(cut))


def _silent(told: Sequence[Told], silent: Sequence[str]) -> PartDraft:
    """No diagnosis, since nobody knows what windows show that were read and not answered for."""
    reason = f"no conclusion was written about {', '.join(silent)}; what was written is listed below, not merged"
    return unmerged(told, reason)


def _as_finding(name: str, window: Window, draft: PartDraft) -> Finding:
    """What one window concluded, as a finding to be merged; without a conclusion, what it wrote."""
    said = tuple(s.model_copy(update={"cites": ()}) for s in draft.diagnosis)
    return Finding(
        id=name,
        slides=window.names,
        patches=window.patches,
        sentences=said or tuple(Sentence(text=text, method="none") for text in draft.unparsed),
    )


def _of_slides(number: int, window: Window, draft: PartDraft) -> tuple[Finding, ...]:
    """What a window of several slides says of each."""
    if len(window.slides) == 1 and draft.diagnosis:
        return ()
    return tuple(f.model_copy(update={"id": f"F{number}.{f.id[1:]}"}) for f in draft.findings)
