"""What the recipe's model makes of held-out slides: its tower of patches, its writer of whole reports."""

from __future__ import annotations

import numpy as np
import torch

from reporters.training.tower import CellClassifier
from reporters.training.writer import WriterTrainer
from workflows.phantom.drawing.cohort import BUCKETS
from workflows.phantom.pathology import ORGANS
from workflows.phantom.training.examples import as_pixels
from workflows.phantom.training.labels import CLASSES, Labelled, cell_targets
from workflows.phantom.training.lessons import LearntSlide, Lessons


@torch.inference_mode()
def patch_accuracy(classifier: CellClassifier, patches: Labelled, grids: tuple[int, ...]) -> dict[str, float]:
    """On cells that are clearly one class: share right, and share of normal ones and of distractors called a lesion."""
    images, targets = patches.images, cell_targets(patches, grids)
    logits = [classifier(as_pixels(images[i : i + 128]), grids)[0] for i in range(0, len(images), 128)]
    figures = {}
    for grid in grids:
        guess = torch.cat([part[grid] for part in logits]).argmax(-1)
        clear = targets[grid].amax(-1) > 0.99
        truth = targets[grid].argmax(-1)
        called = (guess >= len(ORGANS)) & (guess < len(CLASSES))
        lesion = clear & (truth >= len(ORGANS)) & (truth < len(CLASSES))
        for name, hit, of in (
            ("right", guess == truth, clear),
            ("lesions right", guess == truth, lesion),
            ("normal called lesion", called, clear & (truth < len(ORGANS))),
            ("distractors called lesion", called, clear & (truth >= len(CLASSES))),
        ):
            figures[f"{name}, T={grid}"] = round(float(hit[of].float().mean()), 4)
    return figures


def exact_reports(
    trainer: WriterTrainer, slides: list[LearntSlide], grids: tuple[int, ...], n: int
) -> dict[str, float]:
    """Share of exact whole reports on cases composed of held-out slides as they are, and of exact merges."""
    lessons = Lessons(slides, seed=7)
    rng = np.random.default_rng(7)
    rates = {}
    for name, (low, high) in BUCKETS.items():
        for grid in grids:
            cases = [lessons.part(int(rng.integers(low, high + 1)), (grid,), composed=False) for _ in range(n)]
            rates[f"{name} slides, T={grid}"] = trainer.exact_rate(cases)
    rates["merged windows"] = trainer.exact_rate(
        [lessons.merge(int(rng.integers(2, 13)), trainer.profile) for _ in range(n)]
    )
    return rates
