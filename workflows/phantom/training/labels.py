"""What the phantom's patches are called in training: numbers of organ × diagnosis, and targets per cell."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from workflows.phantom.drawing import artefacts
from workflows.phantom.drawing.contents import CONTENTS, MOST, REDRAWN, artefact, mimic_of
from workflows.phantom.drawing.pool import PoolSlide
from workflows.phantom.pathology import ORGANS, Diagnosis, Organ
from wsi_pipeline.models.pixels import pool_grid, resize
from wsi_pipeline.store.patches import PatchStore

CLASSES = [(organ, organ.benign) for organ in ORGANS] + [(organ, d) for organ in ORGANS for d in organ.lesions]
"""Benign first, so that the larger of two numbers is the lesion."""
_MIMICS = [(organ, d) for organ, d in CLASSES if d.mimic]
TOWER_CLASSES = len(CLASSES) + len(_MIMICS) + len(artefacts.NAMES)
"""What the tower learns to tell apart: `CLASSES`, then the mimic of each lesion, then artefacts."""
_NUMBER = {(organ.name, d.text): n for n, (organ, d) in enumerate(CLASSES)}

_STAINED_BELOW = 215
_LESION_FROM = {1: 0.10}
"""By grid, 0.3 for others: a tenth of a patch is a lesion to a pathologist; finer cells dilute it less."""
_MIMIC_FROM, _ARTEFACT_FROM = 0.3, 0.1


def number_of(organ: Organ, diagnosis: Diagnosis) -> int:
    """Its place in `CLASSES`."""
    return _NUMBER[organ.name, diagnosis.text]


@dataclass(frozen=True)
class Labelled:
    """Patches and their truth.

    Attributes:
        images: (n, px, px, 3) uint8.
        organs: (n,) place in `ORGANS`.
        shares: (n, cells, cells, CONTENTS) share of each cell that holds each content of the organ.
    """

    images: Tensor
    organs: Tensor
    shares: Tensor


def labelled_pool(slides: list[PoolSlide], pixels: int) -> Labelled:
    """All patches of the pool."""
    images = torch.cat(list(small_patches(slides, pixels)))
    organs = [ORGANS.index(slide.organ) for slide in slides for _ in slide.shares]
    return Labelled(images, torch.tensor(organs), torch.from_numpy(np.concatenate([s.shares for s in slides])))


def small_patches(slides: list[PoolSlide], pixels: int) -> Iterator[Tensor]:
    """Per slide (n, pixels, pixels, 3) uint8, resized as the encoder does."""

    def read(slide: PoolSlide) -> Tensor:
        batches = PatchStore(slide.store).batches(32)
        return torch.cat([resize(torch.from_numpy(b), pixels).permute(0, 2, 3, 1) for b in batches])

    with ThreadPoolExecutor() as pool:
        yield from pool.map(read, slides)


def cell_targets(patches: Labelled, grids: tuple[int, ...]) -> dict[int, Tensor]:
    """Per T of `grids` a (N, T, TOWER_CLASSES) distribution for every cell of every patch; zeros without tissue.

    A cell is all lesion from `_LESION_FROM` of it on. What a lesion leaves goes to mimics and artefacts, which count
    as all of it from their own shares on, and the rest to normal tissue.
    """
    images = patches.images
    pixels = images.shape[1] // 2
    # every second pixel says enough
    stained = (images[:, ::2, ::2].amin(3) < _STAINED_BELOW).float()
    numbers = _content_classes()[patches.organs].to(images.device)
    targets = {}
    for grid in grids:
        side = round(grid**0.5)
        share = pool_grid(patches.shares.float().flatten(1, 2), grid)
        lesion = _counted(share[..., 1:MOST], _LESION_FROM.get(grid, 0.3))
        left = 1 - lesion.sum(-1, keepdim=True)
        mimic, redrawn, on_slide = (
            share[..., MOST:REDRAWN],
            share[..., REDRAWN : REDRAWN + 1],
            share[..., REDRAWN + 1 :],
        )
        counted = torch.cat([_counted(mimic, _MIMIC_FROM), 0 * redrawn, _counted(on_slide, _ARTEFACT_FROM)], -1)
        counted = left * counted / counted.sum(-1, keepdim=True).clamp_min(1)
        normal = (left - counted.sum(-1, keepdim=True)).clamp_min(0)
        tissue = stained.view(len(images), side, pixels // side, side, pixels // side).mean((2, 4)).flatten(1)
        weight = (tissue / 0.15).clamp(0, 1).unsqueeze(-1)
        target = torch.zeros(len(images), grid, TOWER_CLASSES, device=images.device)
        whole = torch.cat([normal, lesion, counted], -1) * weight
        targets[grid] = target.scatter_add_(2, numbers[:, None, :].expand_as(whole), whole)
    return targets


def _counted(share: Tensor, whole: float) -> Tensor:
    """Shares as they count when a cell is all of a kind from a share of `whole` on."""
    covered = share.sum(-1, keepdim=True)
    return (covered / whole).clamp(0, 1) * share / covered.clamp_min(1e-6)


@cache
def _content_classes() -> Tensor:
    """(organs, CONTENTS) the tower's class of each content; what an organ does not have counts as normal."""
    table = torch.zeros(len(ORGANS), CONTENTS, dtype=torch.long)
    for row, organ in enumerate(ORGANS):
        table[row] = number_of(organ, organ.benign)
        for k, diagnosis in enumerate(organ.diagnoses):
            table[row, k] = number_of(organ, diagnosis)
            if diagnosis.mimic:
                table[row, mimic_of(k)] = len(CLASSES) + _MIMICS.index((organ, diagnosis))
        for k, name in enumerate(artefacts.NAMES):
            table[row, artefact(name)] = len(CLASSES) + len(_MIMICS) + k
    return table
