"""What the phantom's patches are called in training: numbers of organ × diagnosis, and targets per cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workflows.phantom.pathology import ORGANS, Diagnosis, Organ
from workflows.phantom.pool import PoolSlide
from workflows.phantom.sheets import MOST, Sheets
from wsi_pipeline.models.pixels import pool_grid, resize
from wsi_pipeline.store.patches import PatchStore

CLASSES = [(organ, organ.benign) for organ in ORGANS] + [(organ, d) for organ in ORGANS for d in organ.lesions]
"""Benign first, so that the larger of two numbers is the lesion."""
_NUMBER = {(organ.name, d.text): n for n, (organ, d) in enumerate(CLASSES)}

_STAINED_BELOW = 215


def number_of(organ: Organ, diagnosis: Diagnosis) -> int:
    """Its place in `CLASSES`."""
    return _NUMBER[organ.name, diagnosis.text]


@dataclass(frozen=True)
class Labelled:
    """Patches and their truth.

    Attributes:
        images: (n, px, px, 3) uint8.
        organs: (n,) place in `ORGANS`.
        shares: (n, cells, cells, diagnoses) share of each cell under each diagnosis of the organ; 0 is none.
    """

    images: Tensor
    organs: Tensor
    shares: Tensor

    @property
    def lesion(self) -> Tensor:
        """(n,) share of each patch under any lesion."""
        return self.shares[..., 1:].sum(-1).mean((1, 2))


def labelled_pool(slides: list[PoolSlide], pixels: int) -> Labelled:
    """All patches of the pool."""
    shares, organs = [], []
    for slide in slides:
        per_cell = np.zeros((*slide.lesion.shape, MOST), np.float32)
        per_cell[..., 0] = 1 - slide.lesion
        per_cell[..., slide.organ.diagnoses.index(slide.diagnosis)] += slide.lesion
        shares.append(per_cell)
        organs += [ORGANS.index(slide.organ)] * len(slide.lesion)
    images = torch.cat([small_patches(slide, pixels) for slide in slides])
    return Labelled(images, torch.tensor(organs), torch.from_numpy(np.concatenate(shares)))


def labelled_sheets(sheets: list[Sheets]) -> Labelled:
    """All patches of the sheets."""
    images, organs, shares = (
        torch.from_numpy(np.concatenate([getattr(s, name) for s in sheets])) for name in ("images", "organs", "shares")
    )
    return Labelled(images, organs, shares)


def together(*several: Labelled) -> Labelled:
    """One after the other."""
    return Labelled(*(torch.cat([getattr(s, name) for s in several]) for name in ("images", "organs", "shares")))


def small_patches(slide: PoolSlide, pixels: int) -> Tensor:
    """(n, pixels, pixels, 3) uint8, resized as the encoder does."""
    batches = PatchStore(slide.store).batches(32)
    return torch.cat([resize(torch.from_numpy(b), pixels).permute(0, 2, 3, 1) for b in batches])


def cell_targets(patches: Labelled, grids: tuple[int, ...]) -> dict[int, Tensor]:
    """Per T of `grids` a (N, T, classes) distribution for every cell of every patch; zeros where there is no tissue."""
    images = patches.images
    pixels = images.shape[1]
    stained = (images.amin(3) < _STAINED_BELOW).float()
    numbers = torch.tensor(
        [[number_of(o, o.diagnoses[min(k, len(o.diagnoses) - 1)]) for k in range(MOST)] for o in ORGANS]
    )
    targets = {}
    for grid in grids:
        side = round(grid**0.5)
        share = pool_grid(patches.shares.flatten(1, 2), grid)[..., 1:]
        covered = share.sum(-1, keepdim=True)
        # a tenth of the patch is a lesion to a pathologist; coarser cells dilute it less
        present = (covered / (0.10 if grid == 1 else 0.3)).clamp(0, 1)
        tissue = stained.view(len(images), side, pixels // side, side, pixels // side).mean((2, 4)).flatten(1)
        weight = (tissue / 0.15).clamp(0, 1).unsqueeze(-1)
        per_diagnosis = torch.cat([1 - present, present * share / covered.clamp_min(1e-6)], -1) * weight
        target = torch.zeros(len(images), grid, len(CLASSES))
        index = numbers[patches.organs][:, None, :].expand_as(per_diagnosis)
        targets[grid] = target.scatter_add_(2, index, per_diagnosis)
    return targets
