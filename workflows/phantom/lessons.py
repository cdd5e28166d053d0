"""Cases to learn writing from, composed without end from the patches of the pool.

A slide of a lesson is not a slide of the pool: benign patches come from one or two slides of the organ, lesion
patches from a third. Whoever learns whole slides by heart gains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reporters.merging import list_findings
from reporters.profiles import Profile
from reporters.training.writer import TrainingCase, Truth
from workflows.phantom.cohort import MAX_SLIDES, draw_findings
from workflows.phantom.labels import CLASSES, number_of
from workflows.phantom.layout import SHOWN_FROM
from workflows.phantom.pathology import ORGANS, Diagnosis, Organ
from workflows.phantom.wording import EXTENSIVE_PATCHES, PartFinding, write_report
from wsi_pipeline.models.pixels import pool_grid

Rows = NDArray[np.float16]

_NOTHING_BELOW = 0.005
_WHOLE = 0.3
"""Share of slides that are taken as they are."""
_SLIDES, _MOST_PARTS = {1: 40, 4: 24}, 12
"""Slides in a batch by tokens per patch, and parts at the most."""
_NOISE = 0.06
"""Relative to the tokens' own standard deviation."""


@dataclass(frozen=True)
class LearntSlide:
    """A pool slide as the writer sees it.

    Attributes:
        organ, diagnosis: what it shows.
        extensive: how much of it.
        tokens: per view (n, T, D).
        lesion: (n,) whether a patch shows the lesion.
        clear: (n,) whether it shows nothing of it.
    """

    organ: Organ
    diagnosis: Diagnosis
    extensive: bool
    tokens: tuple[Rows, ...]
    lesion: NDArray[np.bool_]
    clear: NDArray[np.bool_]


def shows_lesion(shares: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) from (n, cells, cells) shares."""
    return np.asarray(shares.mean((1, 2)) > SHOWN_FROM)


def shows_nothing(shares: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) from (n, cells, cells) shares; a sliver of a lesion is neither a lesion nor nothing."""
    return np.asarray(shares.mean((1, 2)) < _NOTHING_BELOW)


@dataclass(frozen=True)
class _Bank:
    benign: dict[str, list[LearntSlide]]
    """By organ, all slides: each has benign patches."""
    normal: dict[str, list[LearntSlide]]
    lesion: dict[tuple[str, str, bool], list[LearntSlide]]


class Lessons:
    """Draws cases from learnt slides.

    Args:
        slides: of one split.
        seed: of all that is drawn.
    """

    def __init__(self, slides: list[LearntSlide], seed: int) -> None:
        self._rng = np.random.default_rng([seed, 6])
        self._bank = _Bank({}, {}, {})
        for slide in slides:
            if slide.clear.any():
                self._bank.benign.setdefault(slide.organ.name, []).append(slide)
            if slide.diagnosis == slide.organ.benign:
                self._bank.normal.setdefault(slide.organ.name, []).append(slide)
            elif slide.lesion.any():
                key = (slide.organ.name, slide.diagnosis.text, slide.extensive)
                self._bank.lesion.setdefault(key, []).append(slide)

    def part(self, slides: int, grid: int, composed: bool = True) -> TrainingCase:
        """A part of so many slides at T = `grid`; not `composed`: of pool slides as they are, without noise."""
        organ = ORGANS[self._rng.integers(len(ORGANS))]
        findings = draw_findings(self._rng, organ, slides)
        shown = {n: finding for finding in findings for n in finding.slides}
        tokens, patches, lines = [], [], []
        for n in range(1, slides + 1):
            rows, lesion = self._slide(organ, shown.get(n), composed)
            pooled = pool_grid(torch.from_numpy(rows.astype(np.float32)), grid).numpy()
            if composed:
                pooled = pooled + _NOISE * pooled.std() * self._rng.standard_normal(pooled.shape, np.float32)
            tokens.append(pooled)
            normal = number_of(organ, organ.benign)
            found = number_of(organ, shown[n].diagnosis) if n in shown else normal
            patches.append(np.where(lesion, found, normal))
            lines.append(found + len(CLASSES) * (n in shown and shown[n].extent == "extensive"))
        return TrainingCase(
            [list(rows) for rows in tokens], write_report(organ, slides, findings), Truth(patches, lines)
        )

    def merge(self, windows: int, profile: Profile) -> TrainingCase:
        """The findings of so many windows of one slide each, to be merged into one conclusion that cites them."""
        organ = ORGANS[self._rng.integers(len(ORGANS))]
        findings = draw_findings(self._rng, organ, windows)
        shown = {n: finding for finding in findings for n in finding.slides}
        head = f"{organ.name}, {organ.procedure};"
        texts = [f"{head} - {shown.get(n, organ.benign)}" for n in range(1, windows + 1)]
        assert profile.merge_prompt
        instruction = profile.merge_prompt.format(findings=list_findings(texts))
        return TrainingCase((), merged_report(organ, windows, findings), None, instruction)

    def conclude(self, slides: int) -> TrainingCase:
        """The lines of a part's slides, given, to be concluded from: cheap practice, without any patches."""
        organ = ORGANS[self._rng.integers(len(ORGANS))]
        text = write_report(organ, slides, draw_findings(self._rng, organ, slides))
        given = text[: text.index(f"{organ.name}, {organ.procedure};")]
        return TrainingCase((), text, given=given)

    def _slide(self, organ: Organ, shown: PartFinding | None, composed: bool) -> tuple[Rows, NDArray[np.bool_]]:
        """Tokens of one slide and which of its patches show the lesion."""
        rng = self._rng
        source = self._source(organ, shown)
        view = source.tokens[rng.integers(len(source.tokens)) if composed else 0]
        if not composed or rng.random() < _WHOLE:
            return view, source.lesion
        lesion = view[source.lesion]
        if shown and shown.extent == "extensive" and len(lesion) > EXTENSIVE_PATCHES:
            some = int(rng.integers(EXTENSIVE_PATCHES, len(lesion) + 1))
            lesion = lesion[np.sort(rng.choice(len(lesion), some, replace=False))]
        benign = np.concatenate([self._benign(organ) for _ in range(int(rng.integers(1, 3)))])
        if rng.random() < 0.5:
            benign = np.concatenate([view[source.clear], benign])
        few = min(len(benign), int(rng.integers(2, 14)))
        benign = benign[np.sort(rng.choice(len(benign), few, replace=False))]
        # lesion patches lie together: all within a stretch twice their number
        start = int(rng.integers(0, few + 1))
        places = np.sort(rng.integers(start, min(start + len(lesion), few) + 1, len(lesion)))
        rows = np.insert(benign, places, lesion, axis=0)
        return rows, np.insert(np.zeros(few, bool), places, True)

    def _source(self, organ: Organ, shown: PartFinding | None) -> LearntSlide:
        if shown is None:
            options = self._bank.normal[organ.name]
        else:
            options = self._bank.lesion[organ.name, shown.diagnosis.text, shown.extent == "extensive"]
        return options[self._rng.integers(len(options))]

    def _benign(self, organ: Organ) -> Rows:
        options = self._bank.benign[organ.name]
        slide = options[self._rng.integers(len(options))]
        return slide.tokens[self._rng.integers(len(slide.tokens))][slide.clear]

    def stream(self, grow: int, grids: tuple[int, ...], profile: Profile, texts: int) -> Iterator[list[TrainingCase]]:
        """Batches without end, each of one T; parts grow from 1–3 slides to `MAX_SLIDES` over the first `grow`.

        One batch in `texts` is about text alone: in turns concluding from lines, and merging windows.
        """
        step = 0
        while True:
            most = MAX_SLIDES if step >= grow else 3 + step * (MAX_SLIDES - 3) // grow
            step += 1
            if step % (2 * texts) == 0:
                yield [self.merge(int(self._rng.integers(2, most + 1)), profile) for _ in range(6)]
                continue
            if step % (2 * texts) == texts:
                yield [self.conclude(int(self._rng.integers(1, most + 1))) for _ in range(16)]
                continue
            grid = int(self._rng.choice(grids))
            slides = int(self._rng.integers(1, most + 1))
            # parts of about the same length waste no padding
            size = min(_MOST_PARTS, max(3, _SLIDES[min(grid, 4)] // slides))
            yield [self.part(int(self._rng.integers(slides, min(slides + 1, most) + 1)), grid) for _ in range(size)]


def merged_report(organ: Organ, windows: int, findings: tuple[PartFinding, ...]) -> str:
    """What merging so many windows of a slide each should say: the conclusion, citing findings instead of slides."""
    head = f"{organ.name}, {organ.procedure};"
    if not findings:
        return f"{head}\n- {organ.benign.text} {_cited(range(1, windows + 1))}"
    return "\n".join([head, *(f"- {f} {_cited(f.slides)}" for f in findings)])


def _cited(numbers: range | tuple[int, ...]) -> str:
    return f"[{', '.join(f'F{n}' for n in numbers)}]"
