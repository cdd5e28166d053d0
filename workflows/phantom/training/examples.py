"""Patches for the tower to learn from, cut from sheets without end: turned, stained anew, mixed in quarters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from workflows.phantom.drawing.contents import CONTENTS
from workflows.phantom.drawing.pool import CELLS
from workflows.phantom.pathology import ORGANS
from workflows.phantom.training.labels import Labelled, cell_targets
from workflows.phantom.training.sheets import Sheets

_MIXED = 0.5
"""Share of patches that hold quarters of another one of the same organ."""
_PARTS = 8
"""Of a batch; patches of one are turned alike."""


def examples(
    sheets: Sheets, pixels: int, grids: tuple[int, ...], batch: int, seed: int, device: str = "cpu"
) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
    """Batches of patches, and targets as `train_tower` takes them.

    Args:
        sheets: of all organs.
        pixels: edge of a patch, a multiple of `CELLS`.
        grids: T of the targets.
        batch: patches at a time.
        seed: of all that is drawn; the same on every device.
        device: where they are cut, and given.
    """
    random = torch.Generator().manual_seed(seed)
    organs = torch.from_numpy(sheets.organs)
    by_organ = [torch.nonzero(organs == organ)[:, 0] for organ in range(len(ORGANS))]
    scans, content = (torch.from_numpy(a).to(device) for a in (sheets.images, sheets.content))
    while True:
        rows = torch.randint(len(organs), (batch,), generator=random)
        of = organs[rows]
        others = torch.stack([_any_of(by_organ[organ], random) for organ in of.tolist()])
        some, beside = (_cut(scans, content, chosen, pixels, random) for chosen in (rows, others))
        quarters = torch.rand((batch, 2, 2), generator=random) < 0.5
        quarters &= (torch.rand(batch, generator=random) < _MIXED)[:, None, None]
        turns = torch.randint(8, (_PARTS,), generator=random).tolist()
        images, shares = (
            _turned_in_parts(_quartered(one, other, quarters.to(device)), turns)
            for one, other in zip(some, beside, strict=True)
        )
        yield _stained(images, random), cell_targets(Labelled(images, of, shares), grids)


def as_pixels(images: Tensor) -> Tensor:
    """(n, px, px, 3) uint8 to (n, 3, px, px) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def turned(images: Tensor, turn: int) -> Tensor:
    """One of the eight turns and mirrorings of a square, on dimensions 1 and 2."""
    mirrored = images.flip(2) if turn >= 4 else images
    return torch.rot90(mirrored, turn % 4, (1, 2))


def _any_of(some: Tensor, random: torch.Generator) -> Tensor:
    return some[torch.randint(len(some), (), generator=random)]


def _turned_in_parts(images: Tensor, turns: Sequence[int]) -> Tensor:
    return torch.cat([turned(part, turn) for part, turn in zip(images.tensor_split(len(turns)), turns, strict=True)])


def _cut(images: Tensor, content: Tensor, rows: Tensor, pixels: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A patch from anywhere on each of the sheets in `rows`, and the share of each cell that holds each content."""
    corners = torch.randint(images.shape[1] - pixels + 1, (2, len(rows), 1), generator=random)
    y, x = (corners + torch.arange(pixels)).to(images.device)
    place = rows.to(images.device)[:, None, None], y[:, :, None], x[:, None, :]
    edge = pixels // CELLS
    cells = content[place].view(-1, CELLS, edge, CELLS, edge)
    shares = [(cells == number).float().mean((2, 4)) for number in range(CONTENTS)]
    return images[place], torch.stack(shares, -1)


def _quartered(images: Tensor, others: Tensor, quarters: Tensor) -> Tensor:
    """(n, s, s, c) `images`, and `others` where (n, 2, 2) `quarters` say so."""
    half = images.shape[1] // 2
    chosen = quarters.repeat_interleave(half, 1).repeat_interleave(half, 2)
    return torch.where(chosen[..., None], others, images)


def _stained(images: Tensor, random: torch.Generator) -> Tensor:
    """As pixels, with another stain strength per colour and image: absorbance scaled by up to 15 %."""
    power = 1 + 0.3 * (torch.rand((len(images), 3, 1), generator=random) - 0.5)
    table = (((torch.arange(256) + 1) / 256) ** power * 2 - 1).to(images.device)
    levels = images.permute(0, 3, 1, 2).flatten(2)
    return table.gather(2, levels.long()).view(len(images), 3, *images.shape[1:3])
