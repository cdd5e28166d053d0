"""Whether a reader finds the few patches that decide a composed case, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import numpy as np

from reporters.draft import draft_part
from reporters.selection import at_random, farthest, standing_out
from workflows.checkpoints import Model
from workflows.phantom.drawing.mosaic import write_mosaic
from workflows.phantom.measuring.haystack import Bank, Case, Tokens
from workflows.phantom.measuring.reading import read_case
from workflows.phantom.measuring.reports import MEDGEMMA_PATCHES
from workflows.phantom.measuring.said import answered_in_report, said_in_draft
from workflows.phantom.measuring.scoring import NOTHING, Said
from workflows.phantom.pathology import ORGANS
from wsi_pipeline.cases import Part
from wsi_pipeline.events import Event, listening
from wsi_pipeline.settings import ModelSettings, RunSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore, pool


@dataclass(frozen=True)
class Reading:
    """What one reader made of one case.

    Attributes:
        diseased: some lesion is named.
        on_its_slide: one is, on the slide that shows it.
        false_slides: slides that one is named on, and show none.
        exact: the right diagnosis with its grade, and no other.
        said: all diagnoses.
        tokens: input tokens over all sequences.
        prefill_s: seconds that reading all of them took, merging passes included and words apart; None from files.
        memory_mib: of keys and values of the longest; None from files.
    """

    diseased: bool
    on_its_slide: bool
    false_slides: int
    exact: bool
    said: tuple[str, ...]
    tokens: int
    prefill_s: float | None = None
    memory_mib: float | None = None


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
    "groups": Reader(settings={"plan": "groups"}),
    "best single slide": Reader("each alone"),
    "a random slide": Reader("a random one"),
    "126 of one slide": Reader("a random one", {"max_patches": MEDGEMMA_PATCHES}),
    "126 shared": Reader(settings={"max_patches": MEDGEMMA_PATCHES}),
    "126 farthest": Reader(settings={"max_patches": MEDGEMMA_PATCHES, "select": "farthest"}),
}
"""By what the table calls them; "best single slide" is how single-slide models are made to speak for a case."""


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
    prefills: list[Event] = []
    with listening(lambda event: prefills.append(event) if event.name == "write.prefilled" else None):
        answers = [_answer(model, {name: tokens[name] for name in some}, settings, names) for some in together]
    said, _, _ = max(answers, key=lambda answer: (_diseased(answer[0]), answer[1]))
    return replace(
        _reading(said, case, sum(read for _, _, read in answers)),
        prefill_s=sum(event.facts["seconds"] for event in prefills),
        memory_mib=max(event.facts["memory_mib"] for event in prefills),
    )


def _answer(
    model: Model, tokens: Mapping[str, Tokens], settings: RunSettings, names: Sequence[str]
) -> tuple[Said, float, int]:
    """What is said of some slides, its log-probability, and the tokens it took."""
    features = {s: t.mean(1) for s, t in tokens.items()}
    novel = farthest(features)
    choose = novel if settings.report.select == "farthest" else at_random
    part = Part(None, ())
    plan = model.plan(
        part,
        {s: len(t) for s, t in tokens.items()},
        settings,
        choose=choose,
        novel=novel,
        stands_out=standing_out(features),
    )
    draft = draft_part(part, plan, model.writer, _placed(tokens), _stored(tokens), settings.report)
    return said_in_draft(draft, names), -np.inf if draft.logprob is None else draft.logprob, (draft.plan or plan).tokens


_LESIONS = {lesion.text for organ in ORGANS for lesion in organ.lesions}


def _diseased(said: Said) -> bool:
    return bool(_LESIONS & set(said.diagnoses))


def _reading(said: Said, case: Case, tokens: int) -> Reading:
    truth = case.lesion.text if case.lesion else case.organ.benign.text
    called = {n for text, _, slides in said.findings if text in _LESIONS for n in slides}
    return Reading(
        _diseased(said),
        case.shown_on in called,
        len(called - {case.shown_on}),
        said.diagnoses == (truth,),
        said.diagnoses,
        tokens,
    )


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
    done = read_case(work, RunSettings(model=model))
    if done.report is None:
        return _reading(NOTHING, case, 0)
    (part,) = done.report.parts
    names = [slide.id for slide in done.case.slides]
    return _reading(answered_in_report(part, names), case, part.plan.tokens if part.plan else 0)


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
