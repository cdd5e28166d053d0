"""Merge what several windows of a part say: one text pass over their findings, which must cite them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reporters.answers import CUT, PartDraft, cut_note, inherited
from reporters.evidence import in_turn
from reporters.instructions import merge_instruction
from reporters.parse import citations, cited_within, parse_lines, plain, sentences
from reporters.plan import Window
from reporters.schema import Finding, Sentence
from reporters.writer import Writer
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ReportSettings


def list_findings(texts: Sequence[str]) -> str:
    """The conclusions of several windows as a merging pass reads them, one `F1: …` each."""
    return "\n".join(f"F{n}: {text}" for n, text in enumerate(texts, 1))


def merge_lines(
    part: Part, windows: Sequence[Window], drafts: Sequence[PartDraft], writer: Writer, settings: ReportSettings
) -> PartDraft:
    """Merge the conclusions of windows that were answered in lines; what they say of single slides stays beside it."""
    numbered = list(enumerate(zip(windows, drafts, strict=True), 1))
    findings = [_as_finding(f"F{n}", window, draft) for n, (window, draft) in numbered]
    if silent := [f.id for f, draft in zip(findings, drafts, strict=True) if not draft.diagnosis]:
        merged = _unmerged(findings, silent)
    else:
        merged = _merged(part, findings, list_findings([_flat(draft) for draft in drafts]), writer, settings)
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
    if silent := [f.id for f in findings if not f.sentences]:
        return _unmerged(findings, silent)
    listed = "\n".join(f"{f.id} ({', '.join(f.slides)}): {' '.join(s.text for s in f.sentences)}" for f in findings)
    merged = _merged(part, findings, listed, writer, settings)
    cut = tuple(f"{f.id}: {CUT}" for f in findings if f.truncated)
    return replace(merged, unparsed=(*merged.unparsed, *cut), truncated=merged.truncated or bool(cut))


def _unmerged(findings: list[Finding], silent: Sequence[str]) -> PartDraft:
    """No diagnosis, since nobody knows what windows show that were read and not answered for."""
    reason = f"no conclusion was written about {', '.join(silent)}; what was written is listed below, not merged"
    return PartDraft((), reason, findings=_uncited(findings, set()))


def _merged(part: Part, findings: list[Finding], listed: str, writer: Writer, settings: ReportSettings) -> PartDraft:
    """One text pass over the findings of all windows, `listed`; sentences inherit the evidence of what they cite."""
    profile = writer.profile
    if profile.merge_prompt is None:
        reason = f"{profile.name} cannot merge the findings of {len(findings)} windows; they are listed below"
        return PartDraft((), reason, findings=_uncited(findings, set()))
    sequence = writer.grammar.text_only(merge_instruction(profile, part, listed))
    room = min(profile.longest, profile.context) - settings.max_new_tokens
    if len(sequence.ids) > room:
        reason = (
            f"the findings of {len(findings)} windows take {len(sequence.ids)} tokens and {room} are free; "
            "they are listed below, not merged"
        )
        return PartDraft((), reason, findings=_uncited(findings, set()))
    draft = writer.write(sequence, None, settings.max_new_tokens)
    lines = parse_lines(draft.text) if profile.answer == "lines" else None
    known = {f.id: f for f in findings}
    diagnosis = []
    for said in lines.conclusions if lines else sentences(cited_within(draft.text)):
        text, cited = citations(plain(said.text), set(known))
        about = {i: _about(known[i], text) for i in cited}
        basis = [(known[i], s) for i, said_there in about.items() for s in said_there]
        pieces = [[e for s in said_there for e in s.evidence] for said_there in about.values()]
        shown = tuple(dict.fromkeys(slide for f, s in basis for slide in s.seen_on or f.slides))
        if text:
            sentence = inherited(text, in_turn(pieces, settings.evidence_patches), cited)
            named = any(s.seen_on for _, s in basis)
            everywhere = lines is not None and len(cited) == len(findings) and not named
            diagnosis.append(sentence.model_copy(update={"seen_on": () if everywhere else shown}))
    used = {i for s in diagnosis for i in s.cites}
    nothing = None if diagnosis else "the merging pass wrote nothing"
    rest = (*(lines.rest if lines else ()), *cut_note(draft))
    specimen = lines.specimen if lines else None
    listed_below = _uncited(findings, used)
    remarks = _resting_on_nothing(diagnosis)
    return PartDraft(
        tuple(diagnosis), nothing, specimen, listed_below, remarks, rest, draft.logprob, truncated=draft.truncated
    )


def _resting_on_nothing(diagnosis: Sequence[Sentence]) -> tuple[str, ...]:
    """The instruction asks for citations; sentences without any may be invented."""
    count = sum(not sentence.cites for sentence in diagnosis)
    return (f"{count} of {len(diagnosis)} sentences of the diagnosis cite no finding.",) if count else ()


def _about(finding: Finding, text: str) -> tuple[Sentence, ...]:
    """The sentences of a finding that say the same as `text` but for their extent; all when none does."""
    same = tuple(s for s in finding.sentences if s.text.partition(";")[0] == text.partition(";")[0])
    return same or finding.sentences


def _uncited(findings: list[Finding], used: set[str]) -> tuple[Finding, ...]:
    return tuple(f.model_copy(update={"cited": f.id in used}) for f in findings)


def _as_finding(name: str, window: Window, draft: PartDraft) -> Finding:
    """What one window concluded, as a finding to be merged; without a conclusion, what it wrote."""
    said = tuple(s.model_copy(update={"cites": ()}) for s in draft.diagnosis)
    return Finding(
        id=name,
        slides=window.names,
        patches=window.patches,
        sentences=said or tuple(Sentence(text=text, method="none") for text in draft.unparsed),
    )


def _flat(draft: PartDraft) -> str:
    """A window's answer for the merging pass, without slides: their numbers mean nothing beside other windows."""
    return " ".join([f"{draft.specimen};", *(f"- {s.text}" for s in draft.diagnosis)])


def _of_slides(number: int, window: Window, draft: PartDraft) -> tuple[Finding, ...]:
    """What a window of several slides says of each."""
    if len(window.slides) == 1 and draft.diagnosis:
        return ()
    return tuple(f.model_copy(update={"id": f"F{number}.{f.id[1:]}"}) for f in draft.findings)
