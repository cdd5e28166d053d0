"""Cases to learn writing from, composed without end from the patches of the pool.

Seven of ten slides of a lesson are no slides of the pool: benign patches come from one or two slides of the organ,
lesion patches from a third. Whoever learns whole slides by heart gains little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from reporters.merge_pass import concluded
from reporters.profiles import Profile
from reporters.training.batches import TrainingCase, Truth
from workflows.phantom.drawing.cohort import MAX_SLIDES, draw_findings
from workflows.phantom.pathology import ORGANS, Diagnosis, Organ
from workflows.phantom.training.labels import CLASSES, number_of
from workflows.phantom.training.recipe import Cycle, LongCycle
from workflows.phantom.wording import EXTENSIVE_PATCHES, PartFinding, merged_report, write_report
from wsi_pipeline.models.pixels import pool_grid

Rows = NDArray[np.float16]

LESSONS = 3
"""Raised whenever the same slides would give other lessons."""
GRIDS = (1, 4)
"""Tokens per patch the checkpoint is trained with."""
_SLIDES, _MOST_PARTS = {1: 40, 4: 24}, 12
"""Slides in a batch by tokens per patch, and parts at the most."""
_FEW = 14
"""Fewer benign patches than this are added to those of a lesion, as on the slides of the pool."""
_MIXED, _FINE, _LESION_FINE = 0.2, (0.0, 0.5), 0.7
"""Share of batches with patches that mix two T, range of the share read at the finer, and that of lesion patches."""
_LONG_FROM = 600
"""Tokens of the shortest part that counts as long."""
_PATCH_TOKENS = {1: 1.4, 4: 5.6}
"""Of a patch with its share of slide markers."""
_USUAL = 0.7
"""Share of parts that may have up to `MAX_SLIDES` slides, in a cycle where others have more."""


@dataclass(frozen=True)
class LearntSlide:
    """A pool slide as the writer sees it.

    Attributes:
        organ, diagnosis: what it shows.
        extensive: how much of it.
        tokens: per view (n, T, D).
        lesion: (n,) whether a patch shows the lesion.
        plain: (n,) whether it shows so much of it that it may be all there is.
        clear: (n,) whether it shows nothing of it.
    """

    organ: Organ
    diagnosis: Diagnosis
    extensive: bool
    tokens: tuple[Rows, ...]
    lesion: NDArray[np.bool_]
    plain: NDArray[np.bool_]
    clear: NDArray[np.bool_]


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
        shapes: seed of how many slides and patches batches have; streams that share it have batches of about the same
            size, and do not wait for each other.
        noise: on tokens, relative to their own standard deviation.
        whole: share of slides that are taken as they are.
    """

    def __init__(
        self, slides: list[LearntSlide], seed: int, shapes: int = 0, noise: float = 0.06, whole: float = 0.3
    ) -> None:
        self._noise, self._whole = noise, whole
        self._rng = np.random.default_rng([seed, 6])
        self._shapes = np.random.default_rng([shapes, 10])
        self._organs = [organ for organ in ORGANS if any(slide.organ == organ for slide in slides)]
        self._bank = _Bank({}, {}, {})
        for slide in slides:
            if slide.clear.any():
                self._bank.benign.setdefault(slide.organ.name, []).append(slide)
            if slide.diagnosis == slide.organ.benign:
                self._bank.normal.setdefault(slide.organ.name, []).append(slide)
            elif slide.lesion.any():
                key = (slide.organ.name, slide.diagnosis.text, slide.extensive)
                self._bank.lesion.setdefault(key, []).append(slide)

    def part(
        self,
        slides: int,
        grids: tuple[int, ...],
        composed: bool = True,
        most: int = _FEW,
        first: int = 1,
        shrunk: float = 0.0,
        quiet: float = 0.0,
    ) -> TrainingCase:
        """A part of so many slides, with fewer than `most` benign patches composed to each.

        Args:
            slides: how many.
            grids: T of its patches; of two, most patches have the first, and many of those with a lesion the second.
            composed: or of pool slides as they are, without noise.
            most: benign patches per slide.
            first: number of its first slide.
            shrunk: share of focal lesions of which some patches are left out, down to a single plain one.
            quiet: share of parts without any finding, beside those that are drawn without.
        """
        organ = self._organs[self._rng.integers(len(self._organs))]
        found = () if quiet and self._rng.random() < quiet else draw_findings(self._rng, organ, slides)
        findings = _numbered_from(first, found)
        shown = {n: finding for finding in findings for n in finding.slides}
        tokens, patches, lines = [], [], []
        for n in range(first, first + slides):
            rows, lesion = self._slide(organ, shown.get(n), composed, most, shrunk)
            fine = self._fine(lesion) if len(grids) > 1 else np.zeros(len(rows), bool)
            pooled = [self._pooled(rows, grid, composed) for grid in grids]
            tokens.append([pooled[int(k)][i] for i, k in enumerate(fine)])
            normal = number_of(organ, organ.benign)
            shows = number_of(organ, shown[n].diagnosis) if n in shown else normal
            patches.append(np.where(lesion, shows, normal))
            lines.append(shows + len(CLASSES) * (n in shown and shown[n].extent == "extensive"))
        text = write_report(organ, slides, findings, first)
        return TrainingCase([list(rows) for rows in tokens], text, Truth(patches, lines), first_number=first)

    def _pooled(self, rows: Rows, grid: int, noisy: bool) -> NDArray[np.float32]:
        pooled = pool_grid(torch.from_numpy(rows.astype(np.float32)), grid).numpy()
        if noisy:
            pooled = pooled + self._noise * pooled.std() * self._rng.standard_normal(pooled.shape, np.float32)
        return np.asarray(pooled, np.float32)

    def _fine(self, lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which patches are read fine: some of all, and more of those that show the lesion, as a plan would pick."""
        chance = np.where(lesion, _LESION_FINE, self._rng.uniform(*_FINE))
        return np.asarray(self._rng.random(len(lesion)) < chance)

    def merge(self, windows: int, profile: Profile) -> TrainingCase:
        """The findings of so many windows of one slide each, to be merged into one conclusion that cites them."""
        organ = self._organs[self._rng.integers(len(self._organs))]
        findings = draw_findings(self._rng, organ, windows)
        shown = {n: finding for finding in findings for n in finding.slides}
        specimen = f"{organ.name}, {organ.procedure}"
        told = [concluded(f"F{n}", specimen, [str(shown.get(n, organ.benign))]) for n in range(1, windows + 1)]
        assert profile.merge_prompt
        instruction = profile.merge_prompt.format(findings="\n".join(told))
        return TrainingCase((), merged_report(organ, windows, findings), None, instruction)

    def conclude(self, slides: int) -> TrainingCase:
        """The lines of a part's slides, given, to be concluded from: cheap practice, without any patches."""
        organ = self._organs[self._rng.integers(len(self._organs))]
        text = write_report(organ, slides, draw_findings(self._rng, organ, slides))
        given = text[: text.index(f"{organ.name}, {organ.procedure};")]
        return TrainingCase((), text, given=given)

    def _slide(
        self, organ: Organ, shown: PartFinding | None, composed: bool, most: int, shrunk: float
    ) -> tuple[Rows, NDArray[np.bool_]]:
        """Tokens of one slide and which of its patches show the lesion."""
        rng = self._rng
        source = self._source(organ, shown)
        view = source.tokens[rng.integers(len(source.tokens)) if composed else 0]
        if not composed or (most == _FEW and rng.random() < self._whole):
            return view, source.lesion
        lesion = view[source.lesion]
        least = len(lesion)
        if shown and shown.extent == "extensive":
            least = min(least, EXTENSIVE_PATCHES)
        elif shown and source.plain.any() and rng.random() < shrunk:
            lesion, least = view[source.plain], 1
        if least < len(lesion):
            some = int(rng.integers(least, len(lesion) + 1))
            lesion = lesion[np.sort(rng.choice(len(lesion), some, replace=False))]
        pieces = [self._benign(organ) for _ in range(int(rng.integers(1, 3)))]
        if rng.random() < 0.5:
            pieces.insert(0, view[source.clear])
        few = int(rng.integers(2 if most == _FEW else most // 2, most))
        while most > _FEW and sum(map(len, pieces)) < few:
            pieces.append(self._benign(organ))
        benign = np.concatenate(pieces)
        few = min(len(benign), few)
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

    def stream(self, cycle: Cycle, profile: Profile, grow: int = 0) -> Iterator[list[TrainingCase]]:
        """Batches without end, most of one T each; parts grow from 1–3 slides to `MAX_SLIDES` over the first `grow`.

        Those about text alone are in turns about concluding from lines, and merging windows. The slides of some parts
        do not count from one, so that large numbers are not learnt from large parts alone.
        """
        step, shapes = 0, self._shapes
        while True:
            most = MAX_SLIDES if step >= grow else 3 + step * (MAX_SLIDES - 3) // grow
            step += 1
            if step % (2 * cycle.texts) == 0:
                yield [self.merge(int(shapes.integers(2, most + 1)), profile) for _ in range(6)]
                continue
            if step % (2 * cycle.texts) == cycle.texts:
                yield [self.conclude(int(shapes.integers(1, most + 1))) for _ in range(16)]
                continue
            some = GRIDS if shapes.random() < _MIXED else (int(shapes.choice(GRIDS)),)
            grid = max(some)
            slides = int(shapes.integers(1, most + 1))
            if shapes.random() < cycle.large:
                largest = cycle.patches[GRIDS.index(grid)]
                patches = int(shapes.integers(largest // 4, largest + 1))
                each, first = max(patches // slides, _FEW + 1), self._first(slides, cycle.anywhere)
                yield [self.part(slides, some, most=each, first=first, shrunk=cycle.shrunk)]
                continue
            # parts of about the same length waste no padding
            size = min(_MOST_PARTS, max(3, _SLIDES[min(grid, 4)] // slides))
            sizes = [int(shapes.integers(slides, min(slides + 1, most) + 1)) for _ in range(size)]
            yield [
                self.part(count, some, first=self._first(count, cycle.anywhere), shrunk=cycle.shrunk) for count in sizes
            ]

    def long(self, cycle: LongCycle, profile: Profile) -> Iterator[TrainingCase]:
        """Cases without end, of one to `cycle.slides` slides and up to `cycle.tokens` tokens; some are text alone."""
        rng = self._rng
        while True:
            kind = rng.random()
            slides = int(rng.integers(1, (MAX_SLIDES if rng.random() < _USUAL else cycle.slides) + 1))
            if kind < cycle.texts:
                concluding = slides > MAX_SLIDES or rng.random() < 0.5
                yield self.conclude(slides) if concluding else self.merge(max(2, slides), profile)
                continue
            some = GRIDS if rng.random() < _MIXED else (int(rng.choice(GRIDS)),)
            first = 1
            if rng.random() < cycle.anywhere:
                first = min(int(rng.integers(1, cycle.slides + 1)), cycle.slides - slides + 1)
            if kind >= cycle.texts + cycle.large:
                yield self.part(slides, some, first=first, shrunk=cycle.shrunk)
                continue
            # patches of two T are charged as all of the larger, which is more than they take
            tokens = float(np.exp(rng.uniform(*np.log([_LONG_FROM, cycle.tokens]))))
            each = int(tokens / _PATCH_TOKENS[max(some)] / slides)
            yield self.part(slides, some, most=max(each, _FEW + 1), first=first, shrunk=cycle.shrunk, quiet=cycle.quiet)

    def _first(self, slides: int, anywhere: float) -> int:
        """Number of a part's first slide; the last one is as often `MAX_SLIDES` as parts are large."""
        if not anywhere or self._rng.random() >= anywhere:
            return 1
        return min(int(self._rng.integers(1, MAX_SLIDES + 1)), MAX_SLIDES - slides + 1)


def _numbered_from(first: int, findings: tuple[PartFinding, ...]) -> tuple[PartFinding, ...]:
    return tuple(replace(f, slides=tuple(n + first - 1 for n in f.slides)) for f in findings)
