"""Patches for the tower to learn from, drawn without end: turned, stained anew, and put together from quarters."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workflows.phantom.labels import Labelled, cell_targets
from workflows.phantom.layout import SHOWN_FROM
from workflows.phantom.pathology import ORGANS

_MIXED = 0.5
"""Share of patches that hold quarters of another one of the same organ."""


def examples(
    patches: Labelled, grids: tuple[int, ...], batch: int, seed: int
) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
    """Pixels and targets as `train_tower` takes them; patches with a lesion are drawn as often as those without."""
    random = torch.Generator().manual_seed(seed)
    drawn_by = _even(patches).cumsum(0)
    drawn_by = (drawn_by / drawn_by[-1]).float()
    by_organ = [torch.nonzero(patches.organs == organ)[:, 0] for organ in range(len(ORGANS))]
    while True:
        rows = torch.searchsorted(drawn_by, torch.rand(batch, generator=random)).clamp_max(len(patches.organs) - 1)
        some = patches.rows(rows)
        chance = torch.rand(batch, generator=random)
        own = [by_organ[int(organ)] for organ in some.organs]
        others = patches.rows(torch.stack([rows[int(p * len(rows))] for p, rows in zip(chance, own, strict=True)]))
        quarters = torch.rand((batch, 2, 2), generator=random) < 0.5
        quarters &= (torch.rand(batch, generator=random) < _MIXED)[:, None, None]
        turn = int(torch.randint(8, (1,), generator=random))
        images = turned(_quartered(some.images, others.images, quarters), turn)
        shares = turned(_quartered(some.shares, others.shares, quarters), turn)
        yield _stained(images, random), cell_targets(Labelled(images, some.organs, shares), grids)


def as_pixels(images: Tensor) -> Tensor:
    """(n, px, px, 3) uint8 to (n, 3, px, px) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def turned(images: Tensor, turn: int) -> Tensor:
    """One of the eight turns and mirrorings of a square, on dimensions 1 and 2."""
    mirrored = images.flip(2) if turn >= 4 else images
    return torch.rot90(mirrored, turn % 4, (1, 2))


def _quartered(images: Tensor, others: Tensor, quarters: Tensor) -> Tensor:
    """(n, s, s, c) `images`, and `others` where (n, 2, 2) `quarters` say so."""
    half = images.shape[1] // 2
    chosen = quarters.repeat_interleave(half, 1).repeat_interleave(half, 2)
    return torch.where(chosen[..., None], others, images)


def _stained(images: Tensor, random: torch.Generator) -> Tensor:
    """As pixels, with another stain strength per colour and image: absorbance scaled by up to 15 %."""
    power = 1 + 0.3 * (torch.rand((len(images), 3, 1), generator=random) - 0.5)
    table = ((torch.arange(256) + 1) / 256) ** power * 2 - 1
    levels = images.permute(0, 3, 1, 2).flatten(2)
    return table.gather(2, levels.long()).view(len(images), 3, *images.shape[1:3])


def _even(patches: Labelled) -> Tensor:
    """Weights that draw as many patches with a lesion as without."""
    lesion = patches.lesion > SHOWN_FROM
    share = lesion.double().mean().clamp(1e-3, 1 - 1e-3)
    return torch.where(lesion, 0.5 / share, 0.5 / (1 - share))
