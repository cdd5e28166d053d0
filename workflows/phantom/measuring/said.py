"""What a report or a draft says of a part, in the words that scores are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from reporters.answers import PartDraft
from reporters.schema import PartReport, Sentence
from workflows.phantom.measuring.scoring import NOTHING, Said

_FIRST_ANSWER = re.compile(r"(?P<diagnosis>.+)\nSeen on: (?P<slides>\d+(?:, ?\d+)*)")


def said_in_report(part: PartReport, names: Sequence[str]) -> Said:
    """What a part of a report says; slides are numbered by their place in `names`."""
    said = _said(part.specimen, part.diagnosis, names)
    told = {f.slides[0]: " ".join(s.text for s in f.sentences) for f in part.findings if len(f.slides) == 1}
    abstained = bool(part.confidence and part.confidence.abstained)
    lines = tuple(told.get(name, "") for name in names)
    return replace(said, lines=lines, contradicts=bool(part.remarks), abstained=abstained)


def answered_in_report(part: PartReport, names: Sequence[str]) -> Said:
    """The same, or what an abstaining model leaned to: what its confidence is about."""
    return _said(part.specimen, part.answer, names)


def said_in_draft(draft: PartDraft, names: Sequence[str]) -> Said:
    """The same of a draft."""
    return _said(draft.specimen, draft.diagnosis, names)


def said_in_earlier_draft(draft: PartDraft, names: Sequence[str]) -> Said:
    """The same, also of the first phantom, whose answers end in a diagnosis and `Seen on: 2, 3`."""
    if draft.diagnosis:
        return said_in_draft(draft, names)
    found = _FIRST_ANSWER.fullmatch("\n".join(draft.unparsed[:2]))
    if not found:
        return NOTHING
    return Said(draft.specimen, ((found["diagnosis"], "", tuple(int(n) for n in found["slides"].split(","))),))


def _said(specimen: str | None, diagnosis: Sequence[Sentence], names: Sequence[str]) -> Said:
    found = []
    for sentence in diagnosis:
        text, _, extent = sentence.text.partition("; ")
        found.append((text, extent, tuple(sorted(names.index(slide) + 1 for slide in sentence.seen_on))))
    return Said(specimen, tuple(found))
