"""A text pass over findings, which must cite them; where they are too many for one, several passes in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reporters.agreement import agreement, of_all
from reporters.answers import PartDraft, cut_note, inherited
from reporters.evidence import in_turn
from reporters.instructions import merge_instruction
from reporters.parse import citations, cited_within, parse_lines, plain, sentences, without_extent
from reporters.schema import Finding, Sentence
from reporters.sequence import Sequence as Input
from reporters.writer import Writer
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ReportSettings


@dataclass(frozen=True)
class Told:
    """A finding as a pass is told of it, with its specimen where the checkpoint names one."""

    finding: Finding
    specimen: str | None = None
    merged: bool = False
    """It is what an earlier pass said, and cites what that rests on itself."""

    def line(self, lines: bool) -> str:
        """Without slides where a checkpoint answers in lines: their numbers mean nothing beside other windows."""
        found, said = self.finding, [s.text for s in self.finding.sentences]
        if lines:
            return concluded(found.id, str(self.specimen), said)
        return f"{found.id} ({', '.join(found.slides)}): {' '.join(said)}"


def concluded(name: str, specimen: str, said: Sequence[str]) -> str:
    """What a checkpoint that answers in lines concluded about one window, as it is told of it."""
    return " ".join([f"{name}: {specimen};", *(f"- {text}" for text in said)])


def unmerged(told: Sequence[Told], reason: str) -> PartDraft:
    """No diagnosis, and the findings as they are."""
    return PartDraft((), reason, findings=_uncited(told, set()))


def in_rounds(part: Part, told: Sequence[Told], writer: Writer, settings: ReportSettings) -> PartDraft:
    """Merge findings in one pass or, where they are too many for one, merge what passes over some of them said.

    What the last pass cites is traced back to the findings given.
    """
    profile = writer.profile
    if profile.merge_prompt is None:
        reason = f"{profile.name} cannot merge the findings of {len(told)} windows; they are listed below"
        return unmerged(told, reason)
    room = min(profile.longest, profile.context) - settings.max_new_tokens
    passes: list[PartDraft] = []
    level = list(told)
    while True:
        groups = _packed(level, part, writer, room)
        if len(groups) == len(level) > 1:
            pair = len(_asked(part, level[:2], writer).ids)
            reason = (
                f"the findings of two windows take {pair} tokens and {room} are free; "
                f"the {len(told)} windows are listed below, not merged"
            )
            return unmerged(told, reason)
        if len(groups) == 1:
            passes.append(_one_pass(part, level, writer, settings))
            break
        number = max(int(t.finding.id[1:]) for t in level)
        level = []
        for n, group in enumerate(groups, 1):
            if len(group) == 1:
                level += group
                continue
            passes.append(draft := _one_pass(part, group, writer, settings))
            if not draft.diagnosis:
                return unmerged(told, "a merging pass wrote nothing; the findings are listed below, not merged")
            level.append(Told(_as_finding(f"F{number + n}", group, draft), draft.specimen, merged=True))
    last = passes[-1]
    return replace(
        last,
        findings=_uncited(told, {i for sentence in last.diagnosis for i in sentence.cites}),
        unparsed=tuple(text for draft in passes for text in draft.unparsed),
        logprob=sum(draft.logprob or 0.0 for draft in passes),
        agreement=of_all(draft.agreement for draft in passes),
        truncated=any(draft.truncated for draft in passes),
    )


def _packed(level: Sequence[Told], part: Part, writer: Writer, room: int) -> list[list[Told]]:
    """In order, as many together as one pass may read; one that alone is too long stands alone."""
    groups: list[list[Told]] = []
    for told in level:
        if groups and len(_asked(part, [*groups[-1], told], writer).ids) <= room:
            groups[-1].append(told)
        else:
            groups.append([told])
    return groups


def _asked(part: Part, group: Sequence[Told], writer: Writer) -> Input:
    lines = writer.profile.answer == "lines"
    listed = "\n".join(told.line(lines) for told in group)
    return writer.grammar.text_only(merge_instruction(writer.profile, part, listed))


def _one_pass(part: Part, group: Sequence[Told], writer: Writer, settings: ReportSettings) -> PartDraft:
    """Sentences inherit the evidence of what they cite."""
    asked = _asked(part, group, writer)
    draft = writer.write(asked, None, settings.max_new_tokens, settings.samples or 0, settings.seed)
    lines = parse_lines(draft.text) if writer.profile.answer == "lines" else None
    known = {told.finding.id: told for told in group}
    diagnosis = []
    for said in lines.conclusions if lines else sentences(cited_within(draft.text)):
        text, cited = citations(plain(said.text), set(known))
        about = {i: _about(known[i].finding, text) for i in cited}
        basis = [(known[i], s) for i, said_there in about.items() for s in said_there]
        pieces = [[e for s in said_there for e in s.evidence] for said_there in about.values()]
        shown = tuple(dict.fromkeys(slide for t, s in basis for slide in _seen_on(t, s)))
        cites = tuple(dict.fromkeys(i for t, s in basis for i in (s.cites if t.merged else (t.finding.id,))))
        if text:
            sentence = inherited(text, in_turn(pieces, settings.evidence_patches), cites)
            named = any(s.seen_on for _, s in basis)
            everywhere = lines is not None and len(cited) == len(group) and not named
            diagnosis.append(sentence.model_copy(update={"seen_on": () if everywhere else shown}))
    nothing = None if diagnosis else "the merging pass wrote nothing"
    rest = (*(lines.rest if lines else ()), *cut_note(draft))
    return PartDraft(
        tuple(diagnosis),
        nothing,
        lines.specimen if lines else None,
        remarks=_resting_on_nothing(diagnosis),
        unparsed=rest,
        logprob=draft.logprob,
        agreement=agreement(draft),
        truncated=draft.truncated,
    )


def _seen_on(told: Told, said: Sentence) -> tuple[str, ...]:
    """Nowhere, where an earlier pass cited nothing for it."""
    return said.seen_on or (() if told.merged and not said.cites else told.finding.slides)


def _resting_on_nothing(diagnosis: Sequence[Sentence]) -> tuple[str, ...]:
    """The instruction asks for citations; sentences without any may be invented."""
    count = sum(not sentence.cites for sentence in diagnosis)
    return (f"{count} of {len(diagnosis)} sentences of the diagnosis cite no finding.",) if count else ()


def _about(finding: Finding, text: str) -> tuple[Sentence, ...]:
    """The sentences of a finding that say the same as `text` but for their extent; all when none does."""
    same = tuple(s for s in finding.sentences if without_extent(s.text) == without_extent(text))
    return same or finding.sentences


def _uncited(told: Sequence[Told], used: set[str]) -> tuple[Finding, ...]:
    return tuple(t.finding.model_copy(update={"cited": t.finding.id in used}) for t in told)


def _as_finding(name: str, group: Sequence[Told], draft: PartDraft) -> Finding:
    """What a pass made of some findings, to be merged further."""
    slides = dict.fromkeys(slide for told in group for slide in told.finding.slides)
    patches = sum(told.finding.patches for told in group)
    return Finding(id=name, slides=tuple(slides), patches=patches, sentences=draft.diagnosis)
