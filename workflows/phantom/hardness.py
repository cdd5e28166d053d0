"""How hard the ruler is: slides with one small lesion, what finds it, and how novel it is among distractors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from reporters.draft import draft_part
from reporters.selection import farthest_points
from workflows.checkpoints import Model
from workflows.phantom.cohort import PhantomPart, draw_case
from workflows.phantom.evaluate import said_in_draft
from workflows.phantom.lessons import shows_lesion
from workflows.phantom.pathology import ORGANS
from workflows.phantom.pool import PoolSlide, build_pool
from workflows.phantom.scoring import score
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


def plain_features(slide: PoolSlide) -> NDArray[np.float32]:
    """(n, 24) mean, spread and detail at three scales of each patch's colours: what needs no training."""
    rows = []
    for batch in PatchStore(slide.store).batches(16):
        for patch in batch:
            small = patch[: patch.shape[0] // 4 * 4, : patch.shape[1] // 4 * 4].astype(np.float32)
            small = small.reshape(small.shape[0] // 4, 4, small.shape[1] // 4, 4, 3).mean((1, 3))
            detail = []
            for sigma in (1, 3, 9):
                smooth = ndimage.gaussian_filter(small, (sigma, sigma, 0))
                detail += [(small - smooth).std((0, 1)), np.abs(np.diff(smooth, axis=0)).mean((0, 1))]
            rows.append(np.concatenate([small.mean((0, 1)), small.std((0, 1)), *detail]))
    return np.array(rows, np.float32)


def tower_features(model: Model, slide: PoolSlide, work: Path) -> NDArray[np.float32]:
    """(n, D) mean token of each patch."""
    store = encoded(model, slide, work)
    return np.asarray(store.read(0, len(PatchStore(slide.store)), 1)[:, 0], np.float32)


def found_by(choose: str, lesion: NDArray[np.bool_], features: NDArray[np.float32], share: float, seed: int) -> bool:
    """Whether a choice of `share` of the patches, `farthest` or `random`, holds one that shows the lesion."""
    rng = np.random.default_rng(seed)
    count = max(1, round(len(lesion) * share))
    if choose == "random":
        return bool(lesion[rng.choice(len(lesion), count, replace=False)].any())
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    return bool(lesion[farthest_points(scaled, count, int(rng.integers(len(lesion))))].any())


def novelty_trials(
    cases: Sequence[SmallLesion], benign: Sequence[PoolSlide], slides: int = 12
) -> Iterator[tuple[list[PoolSlide], NDArray[np.bool_]]]:
    """Per case its slide among benign ones of the organ, and which of all their patches show the lesion."""
    rng = np.random.default_rng(0)
    for case in cases:
        others = [s for s in benign if s.organ == case.slide.organ]
        picked = [others[i] for i in rng.permutation(len(others))[: slides - 1]]
        together = [case.slide, *picked]
        yield together, np.concatenate([shows_lesion(s.lesion) for s in together])
