"""A part of more patches than one sequence holds: all of it from afar, what stands out closely, and slides on which
something is named so once more by themselves.

From afar a lesion of one patch is lost among thousands, and close to, a patch that is merely odd is taken for one. What
stands out holds the first (`selection.standing_out`), and reading a slide by itself tells it from the second: what
is there is named again, coarse and fine, and what was only odd among others is not. What is seen closely may be seen on
further slides from afar; what is seen from afar alone is a remark (decision 20).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reporters.agreement import agreement, of_all
from reporters.answers import PartDraft, from_lines, inherited
from reporters.evidence import in_turn
from reporters.parse import without_extent
from reporters.plan import SlideShare, Window
from reporters.planning import room_for
from reporters.reading import PartReader
from reporters.schema import Finding, Sentence
from reporters.strategies import closely, groups
from reporters.writer import Draft

_LOOKED_AT = 4
"""Patches per line of the look from afar that are read again, with those beside them."""


@dataclass(frozen=True)
class _Look:
    """A window that was read, and what it says."""

    window: Window
    written: Draft
    draft: PartDraft

    def named(self) -> Iterable[tuple[str, SlideShare]]:
        """What is said to be on single slides, and which of their patches say so."""
        for said in self.draft.diagnosis:
            for share in self.window.slides:
                if share.slide in said.seen_on:
                    yield without_extent(said.text), share

    def line(self, slide: str) -> Finding | None:
        """What it says of a slide."""
        return next((finding for finding in self.draft.findings if finding.slides == (slide,)), None)


def draft_searched(reader: PartReader) -> PartDraft:
    """Read a search's windows, and by themselves the slides on which something is named; what is confirmed counts."""
    first, close = _looks(reader, reader.plan.windows), _looks(reader, reader.plan.close)
    again = _patches_to_confirm(first, close)
    windows = _windows_alone(reader, again)
    reader.progress.total += len(windows)
    alone = _looks(reader.changed(samples=0), windows)
    opinions = {slide: [look for look in alone if look.window.names == (slide,)] for slide in again}
    confirmed = {slide: _agreed(looks) for slide, looks in opinions.items()}
    every = [*first, *close, *alone]
    slides = list(dict.fromkeys(name for look in first for name in look.window.names))
    findings = _findings(slides, [*alone[::-1], *close, *first], confirmed, reader.settings.evidence_patches)
    diagnosis = _diagnosis(slides, confirmed, every, findings, reader.settings.evidence_patches)
    reason = _why_not(every, opinions, diagnosis)
    remarks = [*_unconfirmed(close, first, confirmed), *_unplaced(every, diagnosis), *_doubts(close, alone)]
    return PartDraft(
        () if reason else diagnosis,
        reason,
        _commonest(look.draft.specimen for look in every),
        tuple(findings.values()),
        remarks=tuple(dict.fromkeys(remarks)),
        unparsed=tuple(text for look in every for text in look.draft.unparsed),
        logprob=None if reason else sum(look.draft.logprob or 0.0 for look in every),
        agreement=of_all(agreement(look.written) for look in (*first, *close)),
        plan=reader.plan.model_copy(update={"alone": tuple(look.window for look in alone)}),
        truncated=any(look.draft.truncated for look in every),
    )


def _looks(reader: PartReader, windows: Sequence[Window]) -> list[_Look]:
    most = max(_LOOKED_AT, reader.settings.evidence_patches)
    return [
        _Look(window, written, from_lines(written, places, window, most))
        for window, (written, places) in zip(windows, reader.read(windows), strict=True)
    ]


def _patches_to_confirm(first: Sequence[_Look], close: Sequence[_Look]) -> dict[str, tuple[int, ...]]:
    """By slide on which something is named closely, or the same from afar: its patches in the close look, and those
    that the look from afar looked at most, with those beside them."""
    closely_named = {name for look in close for name, _ in look.named()}
    wanted: dict[str, set[int]] = {}
    for look in close:
        for _, share in look.named():
            wanted.setdefault(share.slide, set()).update(_patches(share.slide, close))
    for look in first:
        for name, share in look.named():
            if name in closely_named:
                seen = {*_patches(share.slide, close), *_looked_at(share, look.line(share.slide))}
                wanted.setdefault(share.slide, set()).update(seen)
    return {slide: tuple(p for p in _patches(slide, first) if p in some) for slide, some in wanted.items()}


def _looked_at(share: SlideShare, line: Finding | None) -> set[int]:
    """Patches that a line about a slide looked at most, and those beside them; all where that is not known."""
    looked = {e.patch for s in line.sentences for e in s.evidence[:_LOOKED_AT]} if line else set()
    at = [i for i, patch in enumerate(share.patches) if patch in looked]
    return {patch for i in at for patch in share.patches[max(0, i - 1) : i + 2]} or set(share.patches)


def _patches(slide: str, looks: Sequence[_Look]) -> list[int]:
    """Those of a slide that these looks are at, in the order they are read in."""
    return [p for look in looks for share in look.window.slides if share.slide == slide for p in share.patches]


def _windows_alone(reader: PartReader, patches: Mapping[str, Sequence[int]]) -> list[Window]:
    """Of each slide by itself, coarse and then fine."""
    room = room_for(reader.writer.profile, reader.writer.grammar, reader.instruction, reader.settings)
    windows: list[Window] = []
    for slide, some in patches.items():
        if room.finest != room.grids[0]:
            windows += groups({slide: some}, room.at(room.grids[0]))[1]
        windows += closely({slide: some}, room)
    return windows


def _by_grain(looks: Sequence[_Look]) -> list[set[str]]:
    """What the coarse, and what the fine windows of a slide name."""
    named: dict[bool, set[str]] = {}
    for look in looks:
        fine = any(share.fine for share in look.window.slides)
        named.setdefault(fine, set()).update(name for name, _ in look.named())
    return list(named.values())


def _agreed(looks: Sequence[_Look]) -> frozenset[str]:
    """What all of a slide's grains name."""
    return frozenset(set.intersection(*_by_grain(looks)))


def _why_not(
    looks: Sequence[_Look], opinions: Mapping[str, Sequence[_Look]], diagnosis: Sequence[Sentence]
) -> str | None:
    """Why there is no diagnosis; None where there is one.

    A slide that is called diseased by all that read it by itself, if by different names, is not denied.
    """
    silent = sum(not look.draft.diagnosis for look in looks)
    if silent:
        return f"no conclusion was written about {silent} of {len(looks)} sequences; what was written is listed below"
    if any(said.seen_on for said in diagnosis):
        return None
    unlike = [slide for slide, own in opinions.items() if all(_by_grain(own))]
    if unlike:
        return f"read by itself, {', '.join(unlike)} is called diseased by different names; see below"
    return None


def _findings(
    slides: Sequence[str], looks: Sequence[_Look], confirmed: Mapping[str, frozenset[str]], most: int
) -> dict[str, Finding]:
    """By slide what is said of it: what is confirmed, else what was said last of by itself, closely and from afar."""
    found: dict[str, Finding] = {}
    for number, slide in enumerate(slides, 1):
        lines = [line for look in looks if (line := look.line(slide))]
        sure = [
            line for line in lines if any(without_extent(s.text) in confirmed.get(slide, ()) for s in line.sentences)
        ]
        if lines:
            line = (sure or lines)[0]
            sentences = tuple(_with_evidence(s, most) for s in line.sentences)
            found[slide] = line.model_copy(update={"id": f"F{number}", "sentences": sentences})
    return found


def _with_evidence(sentence: Sentence, most: int) -> Sentence:
    evidence = sentence.evidence[:most]
    return sentence.model_copy(update={"evidence": evidence, "method": sentence.method if evidence else "none"})


def _diagnosis(
    slides: Sequence[str],
    confirmed: Mapping[str, frozenset[str]],
    looks: Sequence[_Look],
    findings: Mapping[str, Finding],
    most: int,
) -> tuple[Sentence, ...]:
    """What is confirmed on any slide; where nothing is, what is said most often without naming any."""
    told = list(dict.fromkeys(name for look in looks[::-1] for name, _ in look.named()))
    diagnosis = []
    for name in told:
        shown = tuple(slide for slide in slides if name in confirmed.get(slide, ()))
        if not shown:
            continue
        said = [s for look in looks for s in look.draft.diagnosis if without_extent(s.text) == name]
        text = _commonest(s.text for s in said if {*s.seen_on} & {*shown}) or name
        diagnosis.append(_resting_on(text, shown, findings, most).model_copy(update={"seen_on": shown}))
    everywhere = _commonest(_everywhere(looks))
    if diagnosis or everywhere is None:
        return tuple(diagnosis)
    return (_resting_on(everywhere, slides, findings, most),)


def _resting_on(text: str, slides: Sequence[str], findings: Mapping[str, Finding], most: int) -> Sentence:
    basis = [findings[slide] for slide in slides if slide in findings]
    evidence = in_turn([[e for s in finding.sentences for e in s.evidence] for finding in basis], most)
    return inherited(text, evidence, tuple(finding.id for finding in basis))


def _unconfirmed(
    close: Sequence[_Look], first: Sequence[_Look], confirmed: Mapping[str, frozenset[str]]
) -> tuple[str, ...]:
    """What was named and does not count."""
    remarks: dict[tuple[str, str], str] = {}
    for looks, words in ((close, "closely, among other slides"), (first, "from afar")):
        for name, share in (named for look in looks for named in look.named()):
            if name not in confirmed.get(share.slide, ()):
                remark = f"{share.slide}: {name} was named when the slide was read {words}; unconfirmed"
                remarks.setdefault((share.slide, name), remark)
    return tuple(remarks.values())


def _unplaced(looks: Sequence[_Look], diagnosis: Sequence[Sentence]) -> tuple[str, ...]:
    """What some sequences conclude without naming a slide, and differs from what most of them say."""
    usual = _commonest(_everywhere(looks))
    others = Counter(text for text in _everywhere(looks) if text not in {usual, *(s.text for s in diagnosis)})
    return tuple(f"{text} was concluded by {n} of {len(looks)} sequences on no slide" for text, n in others.items())


def _doubts(close: Sequence[_Look], alone: Sequence[_Look]) -> tuple[str, ...]:
    """Where a single answer contradicts itself."""
    told = ((close, "closely"), (alone, "by itself"))
    return tuple(f"{words}: {remark}" for looks, words in told for look in looks for remark in look.draft.remarks)


def _everywhere(looks: Sequence[_Look]) -> list[str]:
    """What was concluded without naming a slide."""
    return [said.text for look in looks for said in look.draft.diagnosis if not said.seen_on]


def _commonest(texts: Iterable[str | None]) -> str | None:
    """The first of those that are said most often."""
    counted = Counter(text for text in texts if text is not None)
    return max(counted, key=counted.__getitem__, default=None)
