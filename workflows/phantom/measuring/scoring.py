"""One drafted part against its truth, and rates over many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, rankdata

from workflows.phantom.drawing.cohort import BUCKETS, PhantomPart
from workflows.phantom.pathology import Organ
from workflows.phantom.wording import slide_lines


@dataclass(frozen=True)
class Said:
    """What a reader said about a part.

    Attributes:
        specimen: organ and procedure.
        findings: (diagnosis, extent or "", numbers of the slides named), as said.
        lines: what is said of each slide; empty from readers that say nothing of single ones.
        contradicts: it says of itself that it contradicts itself.
        abstained: it names no diagnosis, because it is not sure enough.
    """

    specimen: str | None
    findings: tuple[tuple[str, str, tuple[int, ...]], ...]
    lines: tuple[str, ...] = ()
    contradicts: bool = False
    abstained: bool = False

    @property
    def diagnoses(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted(text for text, _, _ in self.findings))


NOTHING = Said(None, ())
"""No report, or none with a diagnosis."""


@dataclass(frozen=True)
class Score:
    """One reading against its truth.

    Attributes:
        reader: who read.
        bucket: by slides of the part.
        small: every lesion of the part is focal.
        exact: specimen and all diagnoses with their grades, and no other.
        name: the same without grades.
        slides: for every diagnosis exactly the slides that show it are named.
        extent: the extent of every malignant diagnosis is right.
        spotless: all of these, every slide's line says what the slide shows, and nothing contradicts itself.
        wrong_organ: another specimen is said, with a diagnosis or without.
        malignant, benign: the truth is malignant, or shows no lesion.
        called_benign: a malignant part is said to hold no malignant diagnosis.
        called_diseased: a part without any lesion is said to have one.
        silent: no diagnosis is said.
        abstained: the same, because the model was not sure enough.
    """

    reader: str
    bucket: str
    small: bool
    exact: bool
    name: bool
    slides: bool
    extent: bool
    spotless: bool
    wrong_organ: bool
    malignant: bool
    benign: bool
    called_benign: bool
    called_diseased: bool
    silent: bool
    abstained: bool


def all_benign(organ: Organ) -> Said:
    """That nothing is found, from who says nothing of single slides."""
    return Said(f"{organ.name}, {organ.procedure}", ((organ.benign.text, "", ()),))


def truth_of(part: PhantomPart) -> Said:
    """What a perfect reader says."""
    benign = all_benign(part.organ)
    lines = slide_lines(part.organ, len(part.slides), part.findings)
    found = [(f.diagnosis.text, f.extent if f.diagnosis.malignant else "", f.slides) for f in part.findings]
    return Said(benign.specimen, tuple(found) or benign.findings, lines)


def score(reader: str, said: Said, part: PhantomPart) -> Score:
    """Compare; saying nothing is wrong, and calls nothing."""
    truth = truth_of(part)
    grades = {d.text: d.name for d in part.organ.diagnoses}
    malignant = {d.text for d in part.organ.diagnoses if d.malignant}
    organ = said.specimen == truth.specimen
    exact = organ and said.diagnoses == truth.diagnoses
    slides = exact and {(d, s) for d, _, s in said.findings} == {(d, s) for d, _, s in truth.findings}
    extent = exact and {(d, e) for d, e, _ in said.findings} == {(d, e) for d, e, _ in truth.findings}
    names = [sorted(grades.get(d, d) for d in reading.diagnoses) for reading in (said, truth)]
    return Score(
        reader=reader,
        bucket=bucket_of(len(part.slides)),
        small=bool(part.findings) and all(f.extent == "focal" for f in part.findings),
        exact=exact,
        name=organ and names[0] == names[1],
        slides=slides,
        extent=extent,
        spotless=slides and extent and said.lines == truth.lines and not said.contradicts,
        wrong_organ=said.specimen not in (None, truth.specimen),
        malignant=part.malignant,
        benign=not part.findings,
        called_benign=part.malignant and bool(said.findings) and not malignant & set(said.diagnoses),
        called_diseased=not part.findings and bool(set(said.diagnoses) - {part.organ.benign.text}),
        silent=not said.findings,
        abstained=said.abstained,
    )


def bucket_of(slides: int) -> str:
    """Its name in `BUCKETS`."""
    return next(name for name, (low, high) in BUCKETS.items() if low <= slides <= high)


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927)."""
    interval = binomtest(hits, of).proportion_ci(method="wilson")
    return round(float(interval.low), 4), round(float(interval.high), 4)


def auroc(value: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Of `value` as a sign of `right` (Mann-Whitney); of both kinds there must be some."""
    ranks = rankdata(value)
    n, m = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - n * (n + 1) / 2) / (n * m))


@dataclass(frozen=True)
class Rate:
    """So many of so many; `share`, `low` and `high` (95 % after Wilson) are None of none."""

    hits: int
    of: int
    share: float | None
    low: float | None
    high: float | None


def rates(scores: Iterable[Score]) -> dict[str, Rate]:
    """Of every measure. Malignant parts called benign are of malignant ones, benign called diseased of benign ones.

    Whoever calls everything benign is exact on benign parts: `exact, diseased` is of the others. An organ is wrong
    where another one is said, whether or not a diagnosis follows.
    """
    rows = list(scores)
    return {
        "exact": _rate([s.exact for s in rows]),
        "exact, diseased": _rate([s.exact for s in rows if not s.benign]),
        "name": _rate([s.name for s in rows]),
        "slides": _rate([s.slides for s in rows]),
        "extent": _rate([s.extent for s in rows]),
        "spotless": _rate([s.spotless for s in rows]),
        "organ wrong": _rate([s.wrong_organ for s in rows]),
        "malignant called benign": _rate([s.called_benign for s in rows if s.malignant]),
        "benign called diseased": _rate([s.called_diseased for s in rows if s.benign]),
        "silent": _rate([s.silent for s in rows]),
        "abstained": _rate([s.abstained for s in rows]),
    }


def _rate(found: Sequence[bool]) -> Rate:
    if not found:
        return Rate(0, 0, None, None, None)
    return Rate(sum(found), len(found), round(sum(found) / len(found), 4), *wilson(sum(found), len(found)))
