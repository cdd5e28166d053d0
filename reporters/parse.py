"""Generated text to sentences and fields; what fits no field stays verbatim."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STOP = re.compile(r"[.!?](?=\s|$)")
_GOES_ON = re.compile(r"(^\W*\d{1,2}|\b(approx|ca|cf|dr|e\.g|i\.e|incl|resp|vs))\.$", re.IGNORECASE)
"""Numbers of a list and abbreviations, whose full stop ends nothing."""
_BULLET = re.compile(r"(?:[*#•]+\s+|[->]+\s+(?!\d))*")
"""At the beginning of a line; before a figure, `>` and `-` mean what they say."""
_LINE = re.compile(r"^Slide (\d+): (.+)$")
_SPECIMEN = re.compile(r"^(.+);$")
_CONCLUSION = re.compile(r"^- (.+)$")
_SHOWN_ON = re.compile(r"^(.*\S); slides? (\d+(?:, ?\d+)*)$")
# possessive: a group that never closes, such as one that was cut, must not be tried in all ways
_GROUP = r"\[\s*+F\d++(?:(?:[\s,;&–-]|and\b|to\b)++F?\d++)*+\s*+\]"
_CITES = re.compile(_GROUP)
_CITED_BEFORE = re.compile(rf"^[\s*#•>-]*(?:\d{{1,2}}\.\s+)?(?:\*\*)?{_GROUP}[^\S\n]*\S", re.MULTILINE)
_CITED_AFTER = re.compile(rf"([.!?])((?:\s*{_GROUP})+)(?=\s*$|\s+[^\sa-z])", re.MULTILINE)
_ID, _RANGE = re.compile(r"\d+"), re.compile(r"(\d+)\s*(?:-|–|to)\s*F?(\d+)")


@dataclass(frozen=True)
class Span:
    """A piece of generated text and its place, so that evidence can follow it."""

    text: str
    start: int
    stop: int


@dataclass(frozen=True)
class Conclusion:
    """One finding of an answer in lines, and the slides it says show it; none for what holds of all."""

    text: str
    start: int
    stop: int
    slides: tuple[int, ...]


@dataclass(frozen=True)
class Lines:
    """An answer in lines: per-slide findings, specimen, conclusions, and the rest."""

    slides: dict[int, Span]
    specimen: str | None
    conclusions: tuple[Conclusion, ...]
    rest: tuple[str, ...]


def sentences(text: str) -> list[Span]:
    """Sentences and lines of free text, without bullets; what holds no letter and no figure is none."""
    found: list[Span] = []
    position = 0
    for line in text.split("\n"):
        first = 0
        for stop in [*(match.end() for match in _STOP.finditer(line)), len(line)]:
            if stop == len(line) or not _GOES_ON.search(line[first:stop]):
                found += _span(line[first:stop], position + first, begins=first == 0)
                first = stop
        position += len(line) + 1
    return found


def _span(piece: str, start: int, begins: bool) -> list[Span]:
    """A piece of a line as a sentence, if it is one; a bullet may stand where the line `begins`."""
    stripped = piece.lstrip()
    start += len(piece) - len(stripped)
    bullets = _BULLET.match(stripped) if begins else None
    offset = bullets.end() if bullets else 0
    text = stripped[offset:].rstrip()
    return [Span(text, start + offset, start + offset + len(text))] if re.search(r"\w", text) else []


def without_extent(finding: str) -> str:
    """A finding of an answer in lines, up to how far it extends."""
    return finding.partition(";")[0]


def plain(text: str) -> str:
    """Without the asterisks that Markdown emphasises with."""
    return text.replace("**", "")


def parse_lines(text: str) -> Lines:
    """Read `Slide n: …` lines, the specimen `Organ, procedure;` and below it `- finding; slides 2, 5`."""
    slides: dict[int, Span] = {}
    specimen: str | None = None
    conclusions = []
    rest = []
    position = 0
    for raw in text.split("\n"):
        line = Span(raw.strip(), position, position + len(raw))
        position += len(raw) + 1
        if not line.text:
            continue
        if (match := _LINE.match(line.text)) and int(match[1]) not in slides and specimen is None:
            slides[int(match[1])] = Span(match[2], line.start, line.stop)
        elif specimen is None and (match := _SPECIMEN.match(line.text)):
            specimen = match[1]
        elif specimen is not None and (match := _CONCLUSION.match(line.text)):
            conclusions.append(_conclusion(match[1], line))
        else:
            rest.append(line.text)
    return Lines(slides, specimen, tuple(conclusions), tuple(rest))


def _conclusion(text: str, line: Span) -> Conclusion:
    match = _SHOWN_ON.match(text)
    slides = tuple(int(n) for n in re.findall(r"\d+", match[2])) if match else ()
    return Conclusion(match[1] if match else text, line.start, line.stop, slides)


def cited_within(text: str) -> str:
    """Citations behind a full stop, as in `Cancer. [F2] Glands. [F1]`, moved before it: they belong to what ends there.

    Where any line begins with a citation, all stand before what they belong to, and the text is left as it is.
    """
    if _CITED_BEFORE.search(text):
        return text
    return _CITED_AFTER.sub(lambda match: f" {match[2].strip()}{match[1]}", text)


def citations(sentence: str, known: set[str]) -> tuple[str, tuple[str, ...]]:
    """A sentence without its `[F1, F3]`, `[F1-F3]` or `[F1 and 3]`, and the ids in them.

    A group with an id that is not known stays in the text and cites nothing.
    """
    cited: list[str] = []

    def take(match: re.Match[str]) -> str:
        ids = _ids(match[0])
        if any(i not in known for i in ids):
            return match[0]
        cited.extend(i for i in ids if i not in cited)
        return ""

    text = re.sub(r"\s+([.;,])", r"\1", _CITES.sub(take, sentence)).strip()
    return text, tuple(cited)


def _ids(group: str) -> list[str]:
    """Of a citation, in its order, those between the ends of a range included."""

    def all_of(match: re.Match[str]) -> str:
        first, last = int(match[1]), int(match[2])
        # a range as long as this is none
        return " ".join(str(n) for n in range(first, last + 1)) if first < last < first + 1000 else match[0]

    return [f"F{number}" for number in _ID.findall(_RANGE.sub(all_of, group))]
