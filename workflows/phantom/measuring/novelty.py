"""Whether novelty alone finds a small lesion: what a choice of patches that look unusual holds, among distractors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from reporters.selection import farthest_points
from workflows.checkpoints import Model
from workflows.phantom.drawing.pool import PoolSlide, shows_lesion
from workflows.phantom.measuring.single_slides import SmallLesion, encoded
from wsi_pipeline.store.patches import PatchStore


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
