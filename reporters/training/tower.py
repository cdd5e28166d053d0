"""Train a vision tower as a patch classifier: the first of two stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_pipeline.events import emit
from wsi_pipeline.models.pixels import pool_grid


class CellClassifier(nn.Module):
    """Classify each of T cells of a patch from the tower's pooled, normed tokens; the head is thrown away later."""

    def __init__(self, tower: Any, dim: int, classes: int) -> None:
        super().__init__()
        self.tower, self.head = tower, nn.Linear(dim, classes)

    def forward(self, pixels: Tensor, grids: tuple[int, ...]) -> dict[int, Tensor]:
        """(n, 3, px, px) in [-1, 1] to logits (n, T, classes) for every T of `grids`."""
        hidden = self.tower(pixel_values=pixels).last_hidden_state
        pooled = {t: pool_grid(hidden, t) for t in grids}
        return {t: self.head(functional.rms_norm(x, x.shape[-1:])) for t, x in pooled.items()}


def train_tower(
    tower: Any,
    images: Tensor,
    targets: Mapping[int, Tensor],
    *,
    steps: int,
    batch: int = 48,
    rate: float = 1e-3,
    seed: int = 0,
    weights: Tensor | None = None,
) -> CellClassifier:
    """Train on soft targets.

    Args:
        tower: a SigLIP vision model, trained in place.
        images: (N, px, px, 3) uint8.
        targets: per T a (N, T, classes) distribution per cell; a cell of zeros does not count.
        steps, batch, rate, seed: of AdamW with a one-cycle learning rate.
        weights: (N,) how often a patch is drawn, relative to others; None for all alike.
    """
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = CellClassifier(tower, tower.config.hidden_size, next(iter(targets.values())).shape[-1]).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=max(0.1, 2 / steps))
    drawn_by = (torch.ones(len(images)) if weights is None else weights).double().cumsum(0)
    drawn_by = (drawn_by / drawn_by[-1]).float()
    for step in range(steps):
        rows = torch.searchsorted(drawn_by, torch.rand(batch, generator=random)).clamp_max(len(images) - 1)
        turn = int(torch.randint(8, (1,), generator=random))
        pixels = _jitter(turned(images[rows], turn), random)
        logits = model(pixels, tuple(targets))
        loss = torch.stack([
            _soft_cross_entropy(logits[t], _turned_cells(target[rows], turn)) for t, target in targets.items()
        ]).mean()  # fmt: skip
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            emit("train.tower", step=step + 1, steps=steps, loss=round(loss.item(), 4))
    return model.eval()


def as_pixels(images: Tensor) -> Tensor:
    """(n, px, px, 3) uint8 to (n, 3, px, px) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def _jitter(images: Tensor, random: torch.Generator) -> Tensor:
    """Vary stain strength per colour and image: absorbance scaled by up to 15 %."""
    light = (images.permute(0, 3, 1, 2).float() + 1) / 256
    power = 1 + 0.3 * (torch.rand((len(images), 3, 1, 1), generator=random) - 0.5)
    return light**power * 2 - 1


def turned(images: Tensor, turn: int) -> Tensor:
    """One of the eight turns and mirrorings of a square, on dimensions 1 and 2."""
    mirrored = images.flip(2) if turn >= 4 else images
    return torch.rot90(mirrored, turn % 4, (1, 2))


def _turned_cells(cells: Tensor, turn: int) -> Tensor:
    side = round(cells.shape[1] ** 0.5)
    return turned(cells.view(len(cells), side, side, -1), turn).flatten(1, 2)


def _soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    weight = target.sum(-1)
    loss = -(target * functional.log_softmax(logits, -1)).sum(-1)
    return loss.sum() / weight.sum().clamp_min(1.0)
