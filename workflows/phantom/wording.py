"""What a phantom's report says: a line per slide, then specimen and findings, malignant first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workflows.phantom.pathology import Diagnosis, Organ

Extent = Literal["focal", "extensive"]

FOCAL_PATCHES = 3
"""A lesion in at most this many patches of a part is focal."""
EXTENSIVE_PATCHES = 5
"""From this many on it is extensive; no phantom lies between, so that no word depends on where a grid falls."""


@dataclass(frozen=True)
class PartFinding:
    """A diagnosis, the numbers (from 1) of the slides that show it, and how much of it there is."""

    diagnosis: Diagnosis
    slides: tuple[int, ...]
    extent: Extent

    def __str__(self) -> str:
        # reports state the extent of what is malignant
        return f"{self.diagnosis.text}; {self.extent}" if self.diagnosis.malignant else self.diagnosis.text


def write_report(organ: Organ, slides: int, findings: Sequence[PartFinding], first: int = 1) -> str:
    """The report text of a part of so many slides, numbered from `first`.

    One line per slide, which lets a reader check what follows: the specimen, then one line per finding with the
    slides that show it, or the one that says there is none.
    """
    said = slide_lines(organ, slides, findings, first)
    lines = [f"Slide {n}: {text}" for n, text in enumerate(said, first)]
    lines.append(f"{organ.name}, {organ.procedure};")
    lines += [f"- {finding}; {_slides(finding.slides)}" for finding in findings] or [f"- {organ.benign.text}"]
    return "\n".join(lines)


def slide_lines(organ: Organ, slides: int, findings: Sequence[PartFinding], first: int = 1) -> tuple[str, ...]:
    """What is said of each of so many slides, numbered from `first`."""
    shown = {n: str(finding) for finding in findings for n in finding.slides}
    return tuple(shown.get(n, organ.benign.text) for n in range(first, first + slides))


def _slides(numbers: Sequence[int]) -> str:
    return f"slide{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def merged_report(organ: Organ, windows: int, findings: tuple[PartFinding, ...]) -> str:
    """What merging so many windows of a slide each should say: the conclusion, citing findings instead of slides."""
    head = f"{organ.name}, {organ.procedure};"
    if not findings:
        return f"{head}\n- {organ.benign.text} {_cited(range(1, windows + 1))}"
    return "\n".join([head, *(f"- {f} {_cited(f.slides)}" for f in findings)])


def _cited(numbers: range | tuple[int, ...]) -> str:
    return f"[{', '.join(f'F{n}' for n in numbers)}]"
