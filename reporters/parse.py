"""Generated text to sentences and fields; what fits no field stays verbatim."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SENTENCE = re.compile(r"[^\n]+?(?:[.!?](?=\s|$)|\n|$)")
_LINE = re.compile(r"^Slide (\d+): (.+)$")
_SPECIMEN = re.compile(r"^(.+);$")
_CONCLUSION = re.compile(r"^- (.+)$")
_SHOWN_ON = re.compile(r"^(.*\S); slides? (\d+(?:, ?\d+)*)$")
_CITES = re.compile(r"\[([^\]]*)\]")


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
    """Sentences and lines of free text."""
    found = []
    for match in _SENTENCE.finditer(text):
        piece = match.group().strip()
        if piece:
            start = match.start() + match.group().index(piece)
            found.append(Span(piece, start, start + len(piece)))
    return found


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


def citations(sentence: str, known: set[str]) -> tuple[str, tuple[str, ...]]:
    """A sentence without its `[F1, F3]`, and the known ids in them; unknown ids stay in the text."""
    cited: list[str] = []

    def take(match: re.Match[str]) -> str:
        ids = [piece.strip() for piece in match[1].split(",")]
        if not ids or any(i not in known for i in ids):
            return match[0]
        cited.extend(i for i in ids if i not in cited)
        return ""

    text = re.sub(r"\s+([.;,])", r"\1", _CITES.sub(take, sentence)).strip()
    return text, tuple(cited)
