"""Teach the second reader of the phantom checkpoint: single patches, faint lesions among them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reporters.second_reader import Class, PatchClassifier
from reporters.training.parallel import one_core_each
from workflows.phantom.pathology import ORGANS
from workflows.phantom.training.labels import CLASSES, number_of
from workflows.phantom.training.lessons import GRIDS, LearntSlide
from wsi_pipeline.models.pixels import pool_grid

READ_CLASSES: list[Class] = [(organ.name, diagnosis.text) for organ, diagnosis in CLASSES]
"""As reports name them; benign first, which says that nothing is found."""
_BATCH, _RATE, _DECAY = 1024, 3e-3, 0.05
_NOISE = 0.1
"""On tokens, relative to their own standard deviation."""


def teach_second_reader(slides: list[LearntSlide], steps: int, seed: int) -> PatchClassifier:
    """A classifier of patches that show a lesion or nothing of it, by all views of their slides; slivers are left out.

    Args:
        slides: the writer's, and others whose lesions are fainter than it learns from.
        steps: of `_BATCH` patches each.
        seed: of weights, batches and noise.
    """
    tokens, labels, nothing = _patches(slides)
    torch.manual_seed(seed)
    classifier = PatchClassifier(tokens.shape[-1], len(READ_CLASSES))
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    others = _others()
    with one_core_each():
        for step in range(steps):
            drawn = torch.randint(len(labels), (_BATCH,))
            cells = pool_grid(tokens[drawn].float(), GRIDS[step % len(GRIDS)])
            cells = cells + _NOISE * cells.std() * torch.randn(cells.shape)
            scores = classifier(cells, nothing[drawn]).masked_fill(others[nothing[drawn]], -torch.inf)
            loss = functional.cross_entropy(scores, labels[drawn])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return classifier.eval()


def _patches(slides: list[LearntSlide]) -> tuple[Tensor, Tensor, Tensor]:
    """(n, T, D) tokens of patches that show a lesion or nothing of it, which, and what says nothing of their organ."""
    tokens, labels, nothing = [], [], []
    for slide in slides:
        shows, benign = number_of(slide.organ, slide.diagnosis), number_of(slide.organ, slide.organ.benign)
        told = np.where(slide.lesion, shows, benign)[slide.lesion | slide.clear]
        for view in slide.tokens:
            tokens.append(view[slide.lesion | slide.clear])
            labels.append(told)
            nothing.append(np.full(len(told), benign))
    whole = (torch.from_numpy(np.concatenate(some)) for some in (tokens, labels, nothing))
    rows, shown, benign_of = whole
    return rows, shown.long(), benign_of.long()


def _others() -> Tensor:
    """(classes, classes) which are of another organ than the first."""
    of = torch.tensor([ORGANS.index(organ) for organ, _ in CLASSES])
    return of[:, None] != of[None]
