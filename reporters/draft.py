"""Draft one part: run its plan through a writer, and turn text into sentences with evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from reporters.evidence import PatchPlace, attended, strongest
from reporters.parse import Conclusion, Lines, Span, citations, parse_lines, sentences
from reporters.plan import PartPlan, Window
from reporters.profiles import Profile
from reporters.schema import Evidence, Finding, Sentence
from reporters.sequence import PatchTokens
from reporters.writer import Draft, Writer
from wsi_pipeline.cases import Part
from wsi_pipeline.events import emit
from wsi_pipeline.settings import ReportSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore


@dataclass(frozen=True)
class PartDraft:
    """What was written about one part."""

    diagnosis: tuple[Sentence, ...] = ()
    no_diagnosis: str | None = None
    specimen: str | None = None
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    unparsed: tuple[str, ...] = ()
    logprob: float | None = None
    """Of everything that was written about the part; None when nothing was."""


def instruction_for(profile: Profile, part: Part) -> str:
    """The profile's prompt with what is known of the part; lines about what is not known are left out."""
    return _fill(profile.prompt, part)


def _fill(template: str, part: Part, findings: str = "") -> str:
    known = {"tissue": part.tissue, "procedure": part.procedure, "context": part.context}
    lines = []
    for line in template.split("\n"):
        used = [name for name in known if f"{{{name}}}" in line]
        if all(known[name] for name in used):
            lines.append(line.format(**known, findings=findings))
    return "\n".join(lines)


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
    read: list[_Read] = []
    for number, window in enumerate(plan.windows, 1):
        emit("write.window", part=part.title, done=number - 1, total=len(plan.windows), tokens=window.tokens)
        counts = [len(share.patches) for share in window.slides]
        sequence = writer.grammar.sequence(counts, plan.tokens_per_patch, instruction)
        draft = writer.write(sequence, window_tokens(window, tokens, plan.tokens_per_patch), settings.max_new_tokens)
        read.append((draft, [places[share.slide][i] for share in window.slides for i in share.patches]))
    emit("write.window", part=part.title, done=len(plan.windows), total=len(plan.windows), tokens=0)
    if writer.profile.answer == "lines":
        return _draft_lines(part, plan, read, writer, settings)
    return _draft_text(part, plan, read, writer, settings)


_Read = tuple[Draft, list[PatchPlace]]
"""What was written about a window, and where its patches lie."""


def _draft_lines(
    part: Part, plan: PartPlan, read: Sequence[_Read], writer: Writer, settings: ReportSettings
) -> PartDraft:
    """From answers in lines: the only one, or the conclusions of several merged."""
    drafts = [
        _from_lines(*answer, window, settings.evidence_patches)
        for answer, window in zip(read, plan.windows, strict=True)
    ]
    if len(drafts) == 1:
        return drafts[0]
    findings = [_as_finding(f"F{n}", w, d) for n, (w, d) in enumerate(zip(plan.windows, drafts, strict=True), 1)]
    merged = _merged(part, findings, list_findings([_flat(draft) for draft in drafts]), writer, settings)
    slides = [f for n, (w, d) in enumerate(zip(plan.windows, drafts, strict=True), 1) for f in _of_slides(n, w, d)]
    return _with_windows(replace(merged, findings=(*merged.findings, *slides)), read)


def _draft_text(
    part: Part, plan: PartPlan, read: Sequence[_Read], writer: Writer, settings: ReportSettings
) -> PartDraft:
    """From answers in free text: the only one, or several merged."""
    findings = [
        _finding(f"F{n}", window, draft, where, settings.evidence_patches)
        for n, (window, (draft, where)) in enumerate(zip(plan.windows, read, strict=True), 1)
    ]
    if len(findings) == 1:
        only = findings[0]
        reason = None if only.sentences else "the checkpoint wrote nothing"
        return PartDraft(only.sentences, reason, unparsed=_cut_note(read[0][0]), logprob=read[0][0].logprob)
    listed = "\n".join(f"{f.id} ({', '.join(f.slides)}): {' '.join(s.text for s in f.sentences)}" for f in findings)
    return _with_windows(_merged(part, findings, listed, writer, settings), read)


def _with_windows(merged: PartDraft, read: Sequence[_Read]) -> PartDraft:
    """A merged draft is as likely as its own text and those of all windows it rests on."""
    if merged.logprob is None:
        return merged
    return replace(merged, logprob=merged.logprob + sum(draft.logprob for draft, _ in read))


def _places(store: PatchStore) -> list[PatchPlace]:
    facts = store.facts
    return [PatchPlace(facts.slide_id, i, int(x), int(y), facts.patch_level0) for i, (x, y) in enumerate(store.coords)]


def window_tokens(window: Window, stores: Mapping[str, TokenStore], tokens_per_patch: int) -> PatchTokens:
    """Those of a window's patches, read from the slides' stores stretch by stretch."""
    places = [(share.slide, patch) for share in window.slides for patch in share.patches]

    def read(first: int, last: int) -> NDArray[np.float32]:
        parts = []
        for slide, group in groupby(places[first:last], key=itemgetter(0)):
            patches = np.array([patch for _, patch in group])
            rows = stores[slide].read(int(patches[0]), int(patches[-1]) + 1, tokens_per_patch)
            parts.append(rows[patches - patches[0]])
        return np.concatenate(parts)

    return PatchTokens(len(places), tokens_per_patch, read)


def _sentence(draft: Draft, span: Span, places: Sequence[PatchPlace], most: int) -> Sentence:
    evidence = attended(draft, span, places, most)
    return Sentence(text=span.text, method="attention" if evidence else "none", evidence=evidence)


def _inherited(text: str, evidence: tuple[Evidence, ...], cites: tuple[str, ...]) -> Sentence:
    return Sentence(text=text, method="inherited" if evidence else "none", evidence=evidence, cites=cites)


def _finding(name: str, window: Window, draft: Draft, places: Sequence[PatchPlace], most: int) -> Finding:
    return Finding(
        id=name,
        slides=tuple(share.slide for share in window.slides),
        patches=sum(len(share.patches) for share in window.slides),
        sentences=tuple(_sentence(draft, span, places, most) for span in sentences(draft.text)),
        truncated=draft.truncated,
    )


def _as_finding(name: str, window: Window, draft: PartDraft) -> Finding:
    """What one window concluded, as a finding to be merged; without a conclusion, what it wrote."""
    said = tuple(s.model_copy(update={"cites": ()}) for s in draft.diagnosis)
    return Finding(
        id=name,
        slides=tuple(share.slide for share in window.slides),
        patches=sum(len(share.patches) for share in window.slides),
        sentences=said or tuple(Sentence(text=text, method="none") for text in draft.unparsed),
    )


def _of_slides(number: int, window: Window, draft: PartDraft) -> tuple[Finding, ...]:
    """What a window of several slides says of each."""
    if len(window.slides) == 1:
        return ()
    return tuple(f.model_copy(update={"id": f"F{number}.{f.id[1:]}"}) for f in draft.findings)


def _flat(draft: PartDraft) -> str:
    """A window's answer for the merging pass, without slides: their numbers mean nothing beside other windows."""
    return " ".join([f"{draft.specimen};", *(f"- {s.text}" for s in draft.diagnosis)])


def _from_lines(draft: Draft, places: Sequence[PatchPlace], window: Window, most: int) -> PartDraft:
    """Per-slide lines become findings with evidence on their slide; the diagnosis inherits from slides it names."""
    lines = parse_lines(draft.text)
    names = [share.slide for share in window.slides]
    findings = []
    for number, span in sorted(lines.slides.items()):
        if number > len(names):
            continue
        here = [i for i, place in enumerate(places) if place.slide == names[number - 1]]
        seen = replace(draft, attention=None if draft.attention is None else draft.attention[:, here])
        sentence = _sentence(seen, span, [places[i] for i in here], most)
        findings.append(Finding(id=f"F{number}", slides=(names[number - 1],), patches=len(here), sentences=(sentence,)))
    beyond = [f"Slide {n}: {span.text}" for n, span in lines.slides.items() if n > len(names)]
    unparsed = (*lines.rest, *beyond, *_cut_note(draft))
    if not lines.conclusions:
        reason = "the checkpoint's answer has no diagnosis line; see what it wrote below"
        return PartDraft((), reason, lines.specimen, tuple(findings), unparsed=unparsed)
    diagnosis = tuple(_concluded(c, names, findings, most) for c in lines.conclusions)
    remarks = _contradictions(lines, names)
    return PartDraft(diagnosis, None, lines.specimen, tuple(findings), remarks, unparsed, draft.logprob)


def _concluded(said: Conclusion, names: Sequence[str], findings: Sequence[Finding], most: int) -> Sentence:
    """A conclusion rests on the findings of the slides it names, or of all when it names none."""
    shown = tuple(names[n - 1] for n in said.slides if 1 <= n <= len(names))
    basis = [f for f in findings if f.slides[0] in shown or not said.slides]
    evidence = strongest([e for f in basis for s in f.sentences for e in s.evidence], most)
    return _inherited(said.text, evidence, tuple(f.id for f in basis)).model_copy(update={"seen_on": shown})


def _contradictions(lines: Lines, names: Sequence[str]) -> tuple[str, ...]:
    """Where the slides named by the conclusions and the slides' own lines do not agree."""
    named: dict[int, list[str]] = {}
    for said in lines.conclusions:
        for number in said.slides:
            named.setdefault(number, []).append(said.text)
    everywhere = {said.text for said in lines.conclusions if not said.slides}
    somewhere = {said.text for said in lines.conclusions if said.slides}
    others = [span.text for number, span in lines.slides.items() if number not in named]
    usual = max(sorted(set(others)), key=others.count, default="")
    found = []
    for number, name in enumerate(names, 1):
        own = lines.slides.get(number)
        if own is None:
            found.append(f"{name} has no line of its own")
        elif number in named:
            if own.text not in named[number]:
                found.append(f"{name} is named as showing the diagnosis, but its own line says something else")
        elif own.text in somewhere:
            found.append(f"{name} is not named as showing the diagnosis, but its own line says it does")
        elif own.text not in (everywhere or {usual}):
            found.append(f"{name} has a line of its own that the diagnosis does not mention")
    found += [f"slide {n} is named, and there is none of that number" for n in sorted(named) if n > len(names)]
    return tuple(found)


def list_findings(texts: Sequence[str]) -> str:
    """The conclusions of several windows as a merging pass reads them, one `F1: …` each."""
    return "\n".join(f"F{n}: {text}" for n, text in enumerate(texts, 1))


def _merged(part: Part, findings: list[Finding], listed: str, writer: Writer, settings: ReportSettings) -> PartDraft:
    """One text pass over the findings of all windows, `listed`; sentences inherit the evidence of what they cite."""
    profile = writer.profile
    if profile.merge_prompt is None:
        reason = f"{profile.name} cannot merge the findings of {len(findings)} windows; they are listed below"
        return PartDraft((), reason, findings=_uncited(findings, set()))
    sequence = writer.grammar.text_only(_fill(profile.merge_prompt, part, listed))
    room = profile.context - settings.max_new_tokens
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
    for said in lines.conclusions if lines else sentences(draft.text):
        text, cited = citations(said.text, set(known))
        basis = [(known[i], s) for i in cited for s in _about(known[i], text)]
        pieces = [e for _, s in basis for e in s.evidence]
        shown = tuple(dict.fromkeys(slide for f, s in basis for slide in s.seen_on or f.slides))
        if text:
            sentence = _inherited(text, strongest(pieces, settings.evidence_patches), cited)
            named = any(s.seen_on for _, s in basis)
            everywhere = lines is not None and len(cited) == len(findings) and not named
            diagnosis.append(sentence.model_copy(update={"seen_on": () if everywhere else shown}))
    used = {i for s in diagnosis for i in s.cites}
    nothing = None if diagnosis else "the merging pass wrote nothing"
    rest = (*(lines.rest if lines else ()), *_cut_note(draft))
    specimen = lines.specimen if lines else None
    listed_below = _uncited(findings, used)
    return PartDraft(tuple(diagnosis), nothing, specimen, listed_below, (), rest, draft.logprob)


def _about(finding: Finding, text: str) -> tuple[Sentence, ...]:
    """The sentences of a finding that say the same as `text` but for their extent; all when none does."""
    same = tuple(s for s in finding.sentences if s.text.partition(";")[0] == text.partition(";")[0])
    return same or finding.sentences


def _uncited(findings: list[Finding], used: set[str]) -> tuple[Finding, ...]:
    return tuple(f.model_copy(update={"cited": f.id in used}) for f in findings)


def _cut_note(draft: Draft) -> tuple[str, ...]:
    return ("(The text was cut at the longest allowed answer, --max-new-tokens.)",) if draft.truncated else ()
