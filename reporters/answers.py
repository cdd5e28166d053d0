"""From a checkpoint's answer to sentences with evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reporters.agreement import agreement
from reporters.evidence import PatchPlace, attended, attention_shares, in_turn
from reporters.likelihood import of_findings
from reporters.parse import Conclusion, Lines, Span, parse_lines, plain, sentences
from reporters.plan import PartPlan, Window
from reporters.schema import Evidence, Finding, Sentence
from reporters.writer import Draft


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
    """Of what decides: the findings of answers in lines (`reporters.likelihood`), every word of free text and of passes
    that merge; None where nothing was written."""
    agreement: float | None = None
    """See `reporters.agreement`; over everything that was written about the part."""
    backing: float | None = None
    """Of its lines by patches one by one; None without a second reader."""
    plan: PartPlan | None = None
    """How it was read in the end; None when it was not."""
    truncated: bool = False
    """Something of it was cut at the longest allowed answer."""


def from_lines(draft: Draft, places: Sequence[PatchPlace], window: Window, most: int) -> PartDraft:
    """Per-slide lines become findings with evidence on their slide; the diagnosis inherits from slides it names."""
    lines = parse_lines(draft.text)
    names = dict(enumerate(window.names, 1))
    findings = []
    for number, span in sorted(lines.slides.items()):
        if number not in names:
            continue
        here = [i for i, place in enumerate(places) if place.slide == names[number]]
        seen = replace(draft, attention=None if draft.attention is None else draft.attention[:, here])
        sentence = _sentence(seen, span, [places[i] for i in here], most)
        findings.append(Finding(id=f"F{number}", slides=(names[number],), patches=len(here), sentences=(sentence,)))
    beyond = [f"Slide {n}: {span.text}" for n, span in lines.slides.items() if n not in names]
    unparsed = (*lines.rest, *beyond, *cut_note(draft))
    if not lines.conclusions:
        reason = "the checkpoint's answer has no diagnosis line; see what it wrote below"
        return PartDraft((), reason, lines.specimen, tuple(findings), unparsed=unparsed, truncated=draft.truncated)
    diagnosis = tuple(_concluded(c, names, findings, most) for c in lines.conclusions)
    remarks = (*_contradictions(lines, names), *_looked_elsewhere(draft, lines, names, places))
    return PartDraft(
        diagnosis, None, lines.specimen, tuple(findings), remarks, unparsed,
        logprob=of_findings(draft, lines), agreement=agreement(draft), truncated=draft.truncated,
    )  # fmt: skip


def _concluded(said: Conclusion, names: Mapping[int, str], findings: Sequence[Finding], most: int) -> Sentence:
    """A conclusion rests on the findings of the slides that show it, or of all when it names none.

    Which slides those are, their own lines say; a checkpoint that wrote them rightly may still list them wrongly
    (decision 17). Its list counts where no line says it.
    """
    own = tuple(f.slides[0] for f in findings if any(s.text == said.text for s in f.sentences))
    listed = tuple(names[n] for n in said.slides if n in names)
    shown = (own or listed) if said.slides else ()
    basis = [f for f in findings if f.slides[0] in shown or not said.slides]
    evidence = in_turn([[e for s in f.sentences for e in s.evidence] for f in basis], most)
    return inherited(said.text, evidence, tuple(f.id for f in basis)).model_copy(update={"seen_on": shown})


def _contradictions(lines: Lines, names: Mapping[int, str]) -> tuple[str, ...]:
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
    for number, name in names.items():
        own = lines.slides.get(number)
        if own is None:
            found.append(f"{name} has no line of its own")
        elif number in named:
            if own.text not in named[number]:
                found.append(f"the model listed {name} for a diagnosis, but wrote something else about that slide")
        elif own.text in somewhere:
            found.append(f"the model did not list {name} for a diagnosis, but wrote just that about the slide")
        elif own.text not in (everywhere or {usual}):
            found.append(f"{name} has a line of its own that the diagnosis does not mention")
    found += [f"slide {n} is named, and there is none of that number" for n in sorted(named) if n not in names]
    return tuple(found)


_ELSEWHERE, _LITTLE = 0.2, 1 / 3
"""Lines about the wrong slide gave 0.33 to 0.42 of their attention to another one and at most 0.05 to their own; those
about the right one gave it 0.20 to 0.53 (decision 17)."""


def _looked_elsewhere(
    draft: Draft, lines: Lines, names: Mapping[int, str], places: Sequence[PatchPlace]
) -> tuple[str, ...]:
    """Which lines that tell a finding looked at another slide than the one they are about."""
    told = {said.text for said in lines.conclusions if said.slides}
    slides = np.array([place.slide for place in places])
    found = []
    for number, span in sorted(lines.slides.items()):
        if span.text not in told or number not in names:
            continue
        share = attention_shares(draft, span)
        if share is None:
            continue
        shares = {name: float(share[slides == name].sum()) for name in names.values()}
        own, other = names[number], max(shares, key=shares.__getitem__)
        if shares[other] > _ELSEWHERE and shares[own] < _LITTLE * shares[other]:
            found.append(f"what the model wrote about {own} it wrote looking at {other}: the finding may lie there")
    return tuple(found)


def from_text(name: str, window: Window, draft: Draft, places: Sequence[PatchPlace], most: int) -> Finding:
    """A window's answer in free text, as a finding of that name."""
    return Finding(
        id=name,
        slides=window.names,
        patches=window.patches,
        sentences=tuple(_sentence(draft, span, places, most) for span in sentences(draft.text)),
        truncated=draft.truncated,
    )


def _sentence(draft: Draft, span: Span, places: Sequence[PatchPlace], most: int) -> Sentence:
    evidence = attended(draft, span, places, most)
    return Sentence(text=plain(span.text), method="attention" if evidence else "none", evidence=evidence)


def inherited(text: str, evidence: tuple[Evidence, ...], cites: tuple[str, ...]) -> Sentence:
    """A sentence that rests on findings, with their evidence."""
    return Sentence(text=text, method="inherited" if evidence else "none", evidence=evidence, cites=cites)


CUT = "(The text was cut at the longest allowed answer, --max-new-tokens.)"


def cut_note(draft: Draft) -> tuple[str, ...]:
    """That the text was cut, where it was."""
    return (CUT,) if draft.truncated else ()
