"""Cases of any number of patches, decided by a few of them: composed from a bank of encoded phantom slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflows.checkpoints import Model
from workflows.phantom.drawing.cohort import draw_case
from workflows.phantom.drawing.pool import PoolSlide, build_pool, shows_nothing, shows_plainly
from workflows.phantom.measuring.single_slides import LESIONS, benign_slides, encoded
from workflows.phantom.pathology import ORGANS, Diagnosis, Organ

MOST_SLIDES = 50
_PER_SLIDE = 20
"""Patches of a slide in cases of up to `MOST_SLIDES` slides; larger cases have more on each."""

_FOREIGN = (1, 4)
"""Patches of another slide in a case without a lesion: as many as small lesions have."""

Tokens = NDArray[np.float32]


@dataclass(frozen=True)
class Patches:
    """Patches of the bank.

    Attributes:
        tokens: (n, T, D).
        places: (n, 2) number of the bank's slide, and of the patch on it.
    """

    tokens: Tokens
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)

    def some(self, which: slice | NDArray[np.bool_]) -> Patches:
        """Those."""
        return Patches(self.tokens[which], self.places[which])


def _joined(pieces: Sequence[Patches]) -> Patches:
    return Patches(np.concatenate([p.tokens for p in pieces]), np.concatenate([p.places for p in pieces]))


@dataclass(frozen=True)
class Bank:
    """Encoded slides to compose from.

    Attributes:
        normal: by organ, slides without a lesion, distractors included.
        lesions: by organ and diagnosis, the lesion's patches of slides that show it.
        beside: by organ, patches of those slides that show nothing of it: what a case without a lesion is given in its
            place, so that patches of another slide among the others say nothing.
        stores: of the slides, where their pixels are.
    """

    normal: Mapping[str, Sequence[Patches]]
    lesions: Mapping[tuple[str, str], Sequence[Patches]]
    beside: Mapping[str, Sequence[Patches]]
    stores: Sequence[Path] = ()


@dataclass(frozen=True)
class Case:
    """A part composed of slides' patches, and what it shows; None for nothing.

    Attributes:
        organ: of all slides.
        lesion: None for none.
        slides: their patches.
        shown_on: number of the slide with the lesion, from 1; None without.
    """

    organ: Organ
    lesion: Diagnosis | None
    slides: tuple[Patches, ...]
    shown_on: int | None = None

    @property
    def patches(self) -> int:
        """Of all slides."""
        return sum(map(len, self.slides))

    @property
    def distinct(self) -> int:
        """Different ones among them: a bank that is too small gives some more than once."""
        return len(np.unique(np.concatenate([slide.places for slide in self.slides]), axis=0))


def build_bank(work: Path, model: Model, seed: int, normal: int, per_lesion: int, workers: int) -> Bank:
    """Make, tile and encode test slides from `seed` on, and keep them below `work`.

    Args:
        work: folder.
        model: whose tower encodes.
        seed: of the first slide in the test split.
        normal: slides without a lesion, per organ.
        per_lesion: slides per diagnosis; half of them focal.
        workers: processes.
    """
    stores: list[Path] = []

    def held(slide: PoolSlide) -> Patches:
        stores.append(slide.store)
        tokens = encoded(model, slide, work)
        rows = tokens.read(0, len(tokens), tokens.facts.tokens_per_patch)
        return Patches(rows, np.stack([np.full(len(rows), len(stores) - 1), np.arange(len(rows))], 1))

    benign: dict[str, list[Patches]] = {organ.name: [] for organ in ORGANS}
    for slide in benign_slides(work, seed, normal, workers):
        benign[slide.organ.name].append(held(slide))
    lesions: dict[tuple[str, str], list[Patches]] = {}
    beside: dict[str, list[Patches]] = {organ.name: [] for organ in ORGANS}
    specs = [
        draw_case(seed + 100_000 + n, "test", slides=1, organ=organ.name, diagnosis=lesion.text,
                  extent="focal" if n // len(LESIONS) % 2 == 0 else "extensive").parts[0].slides[0]
        for n, (organ, lesion) in enumerate(LESIONS * per_lesion)
    ]  # fmt: skip
    for slide in build_pool(work, specs, workers):
        patches = held(slide)
        shown = patches.some(shows_plainly(slide.lesion))
        lesions.setdefault((slide.organ.name, slide.diagnosis.text), []).append(shown)
        beside[slide.organ.name].append(patches.some(shows_nothing(slide.lesion)))
    return Bank(benign, lesions, beside, stores)


def compose(bank: Bank, rng: np.random.Generator, organ: Organ, patches: int, lesion_patches: int) -> Case:
    """A case of about so many patches; `lesion_patches` of them, side by side on one slide, decide it; 0 for none.

    A composed slide is as many slides of the bank, one behind the other, as it takes, each once before any comes again.
    A case without a lesion is given patches that show none, of a slide that has one, in the same way.
    """
    count = _slides_of(patches)
    every = _drawn(bank.normal[organ.name], rng, patches)
    slides = [every.some(slice(part[0], part[-1] + 1)) for part in np.array_split(np.arange(patches), count)]
    lesion, given = None, bank.beside[organ.name]
    foreign = lesion_patches or int(rng.choice(_FOREIGN))
    if lesion_patches:
        lesion = organ.lesions[rng.integers(len(organ.lesions))]
        given = bank.lesions[organ.name, lesion.text]
    shown = _of_one(given, rng, foreign, lesion.text if lesion else organ.benign.text)
    first = int(rng.integers(len(shown) - foreign + 1))
    where = int(rng.integers(count))
    at = int(rng.integers(len(slides[where]) - foreign + 1))
    found, slide = shown.some(slice(first, first + foreign)), slides[where]
    slides[where] = _joined([slide.some(slice(0, at)), found, slide.some(slice(at + foreign, None))])
    return Case(organ, lesion, tuple(slides), where + 1 if lesion else None)


def least_on_a_slide(patches: int) -> int:
    """Patches of the smallest slide of a case of so many."""
    return patches // _slides_of(patches)


def _slides_of(patches: int) -> int:
    return int(np.clip(patches // _PER_SLIDE, 1, MOST_SLIDES))


def _of_one(given: Sequence[Patches], rng: np.random.Generator, patches: int, what: str) -> Patches:
    """So many patches at least: of one slide where one shows as many, else of several."""
    options = [some for some in given if len(some)]
    if not options:
        raise ValueError(f"no slide of the bank shows enough of {what}: take more of each diagnosis")
    able = [shown for shown in options if len(shown) >= patches]
    return able[rng.integers(len(able))] if able else _drawn(options, rng, patches)


def _drawn(options: Sequence[Patches], rng: np.random.Generator, patches: int) -> Patches:
    """So many patches of slides in random order; when all are spent they come again, in another one."""
    taken: list[Patches] = []
    while sum(map(len, taken)) < patches:
        taken += [options[i] for i in rng.permutation(len(options))]
    return _joined(taken).some(slice(0, patches))
