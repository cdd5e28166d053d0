"""Slides of one diagnosis, to measure with: those with one small lesion, those without any, and their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reporters.draft import draft_part
from workflows.checkpoints import Model
from workflows.phantom.drawing.cohort import PhantomPart, draw_case
from workflows.phantom.drawing.pool import PoolSlide, build_pool
from workflows.phantom.measuring.said import said_in_draft
from workflows.phantom.measuring.scoring import score
from workflows.phantom.pathology import ORGANS
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import RunSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore

LESIONS = [(organ, lesion) for organ in ORGANS for lesion in organ.lesions]
CONTRASTS = (1.0, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class SmallLesion:
    """A part of one slide with one focal lesion, and the slide tiled."""

    part: PhantomPart
    slide: PoolSlide


def small_lesions(work: Path, seed: int, each: int, workers: int, contrast: float = 1.0) -> list[SmallLesion]:
    """`each` parts per lesion of every organ, of test seeds from `seed` on."""
    fixed = {"slides": 1, "extent": "focal", "contrast": contrast}
    parts = [
        draw_case(seed + n, "test", organ=organ.name, diagnosis=lesion.text, **fixed).parts[0]  # type: ignore[arg-type]
        for n, (organ, lesion) in enumerate(LESIONS * each)
    ]
    by_seed = {part.slides[0].seed: part for part in parts}
    slides = build_pool(work, [part.slides[0] for part in parts], workers)
    return [SmallLesion(by_seed[slide.spec.seed], slide) for slide in slides]


def benign_slides(work: Path, seed: int, each: int, workers: int) -> list[PoolSlide]:
    """`each` slides without a lesion per organ, with their distractors."""
    parts = [
        draw_case(seed + n, "test", slides=1, organ=organ.name, diagnosis=organ.benign.text).parts[0]
        for n, organ in enumerate(ORGANS * each)
    ]
    return list(build_pool(work, [part.slides[0] for part in parts], workers))


def model_right(model: Model, cases: Sequence[SmallLesion], work: Path) -> int:
    """How many parts the checkpoint gives exactly the right diagnosis."""
    hits = []
    for case in cases:
        store = PatchStore(case.slide.store)
        tokens = encoded(model, case.slide, work)
        name = store.facts.slide_id
        settings = RunSettings()
        part = Part(None, ())
        plan = model.plan(part, {name: len(store)}, settings)
        draft = draft_part(part, plan, model.writer, {name: store}, {name: tokens}, settings.report)
        hits.append(score("", said_in_draft(draft, [name]), case.part).exact)
    return sum(hits)


def encoded(model: Model, slide: PoolSlide, work: Path) -> TokenStore:
    """The slide's tokens at T = 4 by this model's tower, kept below `work`."""
    final = work / f"{slide.store.stem}-{model.revision}-tokens.zarr"
    if not final.exists():
        model.encoder.encode(PatchStore(slide.store), slide.store.stem, 4, final)
    return TokenStore(final)
