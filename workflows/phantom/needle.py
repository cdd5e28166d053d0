"""Cases of any number of patches, decided by a few of them: composed from a bank of encoded phantom slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from reporters.draft import draft_part
from reporters.selection import at_random, farthest
from workflows.checkpoints import Model
from workflows.phantom.cohort import draw_case
from workflows.phantom.evaluate import said_in_draft, said_in_report
from workflows.phantom.hardness import LESIONS, benign_slides, encoded
from workflows.phantom.lessons import shows_nothing
from workflows.phantom.mosaic import write_mosaic
from workflows.phantom.pathology import ORGANS, Diagnosis, Organ
from workflows.phantom.pool import PoolSlide, build_pool
from workflows.phantom.reading import read_case
from workflows.phantom.scoring import NOTHING, Said
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ModelSettings, RunSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore, pool

MEDGEMMA_PATCHES = 126
"""What MedGemma 1.5 reads of a slide."""
MOST_SLIDES = 50
_PER_SLIDE = 20
"""Patches of a slide in cases of up to `MOST_SLIDES` slides; larger cases have more on each."""

_FOREIGN = (1, 4)
"""Patches of another slide in a case without a lesion: as many as small lesions have."""
LEAST_SHOWN = 0.3
"""Share of a patch that a lesion covers in the bank: where one patch decides, it must be there to be seen."""

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
    """A part composed of slides' patches, and what it shows; None for nothing."""

    organ: Organ
    lesion: Diagnosis | None
    slides: tuple[Patches, ...]

    @property
    def patches(self) -> int:
        """Of all slides."""
        return sum(map(len, self.slides))

    @property
    def distinct(self) -> int:
        """Different ones among them: a bank that is too small gives some more than once."""
        return len(np.unique(np.concatenate([slide.places for slide in self.slides]), axis=0))


@dataclass(frozen=True)
class Reading:
    """What one reader made of one case.

    Attributes:
        diseased: some lesion is named.
        exact: the right diagnosis with its grade, and no other.
        said: all diagnoses.
        tokens: input tokens over all sequences.
    """

    diseased: bool
    exact: bool
    said: tuple[str, ...]
    tokens: int


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
        shown = patches.some(slide.lesion.mean((1, 2)) > LEAST_SHOWN)
        lesions.setdefault((slide.organ.name, slide.diagnosis.text), []).append(shown)
        beside[slide.organ.name].append(patches.some(shows_nothing(slide.lesion)))
    return Bank(benign, lesions, beside, stores)


def compose(bank: Bank, rng: np.random.Generator, organ: Organ, patches: int, lesion_patches: int) -> Case:
    """A case of about so many patches; `lesion_patches` of them, side by side on one slide, decide it; 0 for none.

    A composed slide is as many slides of the bank, one behind the other, as it takes, each once before any comes again.
    A case without a lesion is given patches that show none, of a slide that has one, in the same way.
    """
    count = int(np.clip(patches // _PER_SLIDE, 1, MOST_SLIDES))
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
    return Case(organ, lesion, tuple(slides))


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


@dataclass(frozen=True)
class Reader:
    """A way to read a case: `slides` says which, `settings` is what a report's settings are changed to."""

    slides: Literal["all", "a random one", "each alone"] = "all"
    settings: Mapping[str, object] = field(default_factory=dict)


EVERY = "every patch (auto)"
READERS: Mapping[str, Reader] = {
    EVERY: Reader(),
    "joint, T = 1": Reader(settings={"plan": "joint", "tokens_per_patch": 1}),
    "mixed, by novelty": Reader(settings={"plan": "mixed", "zoom": "novelty"}),
    "mixed, two passes": Reader(settings={"plan": "mixed", "zoom": "evidence"}),
    "windows": Reader(settings={"plan": "windows"}),
    "best single slide": Reader("each alone"),
    "a random slide": Reader("a random one"),
    "126 of one slide": Reader("a random one", {"max_patches": MEDGEMMA_PATCHES}),
    "126 shared": Reader(settings={"max_patches": MEDGEMMA_PATCHES}),
    "126 farthest": Reader(settings={"max_patches": MEDGEMMA_PATCHES, "select": "farthest"}),
}
"""By what the table calls them; the sixth is how single-slide models are made to speak for a case."""


def read(model: Model, case: Case, reader: Reader, seed: int) -> Reading:
    """What a reader makes of a case; of several answers, the most certain one that names a lesion."""
    names = [f"s{n:03d}" for n in range(len(case.slides))]
    chosen = names
    if reader.slides == "a random one":
        chosen = [names[np.random.default_rng([seed, 13]).integers(len(names))]]
    report = RunSettings().report.model_copy(update={"seed": seed, "evidence_patches": 0, **reader.settings})
    settings = RunSettings(report=report)
    tokens = {name: slide.tokens for name, slide in zip(names, case.slides, strict=True)}
    together = [[name] for name in chosen] if reader.slides == "each alone" else [chosen]
    answers = [_answer(model, {name: tokens[name] for name in some}, settings, names) for some in together]
    said, _, _ = max(answers, key=lambda answer: (_diseased(answer[0]), answer[1]))
    return _reading(said, case, sum(read for _, _, read in answers))


def _answer(
    model: Model, tokens: Mapping[str, Tokens], settings: RunSettings, names: Sequence[str]
) -> tuple[Said, float, int]:
    """What is said of some slides, its log-probability, and the tokens it took."""
    novel = farthest({s: t.mean(1) for s, t in tokens.items()})
    choose = novel if settings.report.select == "farthest" else at_random
    part = Part(None, ())
    plan = model.plan(part, {s: len(t) for s, t in tokens.items()}, settings, choose=choose, novel=novel)
    draft = draft_part(part, plan, model.writer, _placed(tokens), _stored(tokens), settings.report)
    looks = plan.tokens + (draft.plan.tokens if plan.second_look and draft.plan else 0)
    return said_in_draft(draft, names), draft.logprob or -np.inf, looks


def _diseased(said: Said) -> bool:
    return bool({lesion.text for organ in ORGANS for lesion in organ.lesions} & set(said.diagnoses))


def _reading(said: Said, case: Case, tokens: int) -> Reading:
    truth = case.lesion.text if case.lesion else case.organ.benign.text
    return Reading(_diseased(said), said.diagnoses == (truth,), said.diagnoses, tokens)


def read_from_files(model: ModelSettings, case: Case, bank: Bank, work: Path) -> Reading:
    """The same case from slide files to its report, with the settings of "every patch".

    Args:
        model: which checkpoint, and how long its context is.
        case: composed from `bank`.
        bank: whose patches' pixels are on this disk.
        work: an empty folder.
    """
    known = {number for slide in case.slides for number in slide.places[:, 0].tolist()}
    opened = {number: PatchStore(bank.stores[number]) for number in known}
    folder = work / "slides" / "case"
    folder.mkdir(parents=True)
    for n, slide in enumerate(case.slides):
        write_mosaic(folder / f"s{n:03d}.svs", [np.asarray(opened[a].patches[b]) for a, b in slide.places.tolist()])
    done = read_case(work, model)
    if done.report is None:
        return _reading(NOTHING, case, 0)
    (part,) = done.report.parts
    names = [slide.id for slide in done.case.slides]
    return _reading(said_in_report(part, names), case, part.plan.tokens if part.plan else 0)


def _placed(tokens: Mapping[str, Tokens]) -> dict[str, PatchStore]:
    """Stand-ins for patch stores, whose patches are never shown: places in a row."""
    return {
        slide: cast(
            "PatchStore",
            SimpleNamespace(
                facts=SimpleNamespace(slide_id=slide, patch_level0=768.0, mpp=1.0),
                coords=np.stack([768 * np.arange(len(rows)), np.zeros(len(rows), int)], 1),
            ),
        )
        for slide, rows in tokens.items()
    }


@dataclass(frozen=True)
class _Held:
    """A token store in memory."""

    rows: Tokens

    def read(self, start: int, stop: int, tokens_per_patch: int) -> Tokens:
        return pool(self.rows[start:stop], tokens_per_patch)


def _stored(tokens: Mapping[str, Tokens]) -> dict[str, TokenStore]:
    return {slide: cast("TokenStore", _Held(rows)) for slide, rows in tokens.items()}
