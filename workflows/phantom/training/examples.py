"""Patches for the tower to learn from, cut from sheets without end: turned, stained anew, mixed in quarters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workflows.phantom.drawing.contents import CONTENTS
from workflows.phantom.drawing.pool import CELLS
from workflows.phantom.pathology import ORGANS
from workflows.phantom.training.labels import Labelled, cell_targets
from workflows.phantom.training.sheets import Sheets

_MIXED = 0.5
"""Share of patches that hold quarters of another one of the same organ."""


def examples(
    sheets: Sheets, pixels: int, grids: tuple[int, ...], batch: int, seed: int
) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
    """Batches of patches, and targets as `train_tower` takes them.

    Args:
        sheets: of all organs.
        pixels: edge of a patch, a multiple of `CELLS`.
        grids: T of the targets.
        batch: patches at a time.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng([seed, 9])
    random = torch.Generator().manual_seed(seed)
    by_organ = [np.flatnonzero(sheets.organs == organ) for organ in range(len(ORGANS))]
    while True:
        rows = rng.integers(len(sheets.organs), size=batch)
        some = _cut(sheets, rows, pixels, rng)
        others = _cut(sheets, np.array([rng.choice(by_organ[organ]) for organ in some.organs]), pixels, rng)
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


def _cut(sheets: Sheets, rows: NDArray[np.int64], pixels: int, rng: np.random.Generator) -> Labelled:
    """A patch from anywhere on each of the sheets in `rows`."""
    places = rng.integers(sheets.images.shape[1] - pixels + 1, size=(len(rows), 2))
    windows = [(row, slice(y, y + pixels), slice(x, x + pixels)) for row, (y, x) in zip(rows, places, strict=True)]
    content = torch.from_numpy(np.stack([sheets.content[window] for window in windows])).long()
    edge = pixels // CELLS
    cells = content.view(-1, CELLS, edge, CELLS, edge).transpose(2, 3).flatten(3)
    counts = torch.zeros(*cells.shape[:3], CONTENTS).scatter_add_(3, cells, torch.ones(cells.shape))
    images = torch.from_numpy(np.stack([sheets.images[window] for window in windows]))
    return Labelled(images, torch.from_numpy(sheets.organs[rows]), counts / edge**2)


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
