"""How well single patches' tokens tell a lesion from all else: what bounds whoever reads many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from workflows.phantom.measuring.haystack import Bank, Patches
from workflows.phantom.pathology import ORGANS
from wsi_pipeline.store.tokens import pool

_HIDDEN, _STEPS, _RATE = 64, 250, 4e-3
_FOLDS = 2


@dataclass(frozen=True)
class Scores:
    """What a probe says of the patches of one organ, each scored by one that never saw its slide; high is diseased.

    Attributes:
        organ: its name.
        benign: (n,) of patches without a lesion, distractors included.
        lesion: (m,) of patches that show one.
    """

    organ: str
    benign: NDArray[np.float32]
    lesion: NDArray[np.float32]

    def false_at(self, found: float) -> float:
        """Share of benign patches that score as high as the share `found` of lesion patches does at least."""
        threshold = np.quantile(self.lesion, 1 - found)
        return float((self.benign >= threshold).mean())


def probe(bank: Bank, tokens_per_patch: int, seed: int = 0) -> list[Scores]:
    """Fit a small network on one half of the bank's slides to score the other half, and the other way round.

    Args:
        bank: encoded slides.
        tokens_per_patch: T that is given to it; the highest score of a patch's tokens counts.
        seed: of the halves and the network.
    """
    random = np.random.default_rng([seed, 21])
    slides = [
        (number, patches, label)
        for number, organ in enumerate(ORGANS)
        for label, some in ((0, bank.normal[organ.name]), (0, bank.beside[organ.name]), (1, _lesions(bank, organ.name)))
        for patches in some
        if len(patches)
    ]
    # a slide's lesion and what lies beside it are of one half
    half = {int(n): int(random.integers(_FOLDS)) for n in {int(p.places[0, 0]) for _, p, _ in slides}}
    fold = np.concatenate([np.full(len(p), half[int(p.places[0, 0])]) for _, p, _ in slides])
    organs = torch.from_numpy(np.concatenate([np.full(len(p), number) for number, p, _ in slides]))
    labels = torch.from_numpy(np.concatenate([np.full(len(p), label, np.float32) for _, p, label in slides]))
    rows = np.concatenate([pool(p.tokens, tokens_per_patch) for _, p, _ in slides])
    cells = functional.rms_norm(torch.from_numpy(np.asarray(rows, np.float32)), rows.shape[-1:])
    scores = np.zeros(len(labels), np.float32)
    for held_out in range(_FOLDS):
        seen, unseen = (torch.from_numpy(np.flatnonzero((fold == held_out) == of)) for of in (False, True))
        network = _fit(cells[seen], organs[seen], labels[seen], seed)
        with torch.inference_mode():
            scores[unseen.numpy()] = network(cells[unseen], organs[unseen]).numpy()
    told = labels.numpy() > 0
    of = organs.numpy()
    return [Scores(organ.name, scores[(of == n) & ~told], scores[(of == n) & told]) for n, organ in enumerate(ORGANS)]


def _lesions(bank: Bank, organ: str) -> Sequence[Patches]:
    return [patches for (name, _), some in bank.lesions.items() if name == organ for patches in some]


class _Network(nn.Module):
    """The highest score of a patch's tokens, told its organ."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.organ = nn.Embedding(len(ORGANS), _HIDDEN)
        self.first, self.last = nn.Linear(dim, _HIDDEN), nn.Linear(_HIDDEN, 1)

    def forward(self, cells: Tensor, organs: Tensor) -> Tensor:
        """(n,) from (n, T, D) and (n,)."""
        hidden = functional.gelu(self.first(cells) + self.organ(organs)[:, None])
        found: Tensor = self.last(hidden)[..., 0].amax(1)
        return found


def _fit(cells: Tensor, organs: Tensor, labels: Tensor, seed: int) -> _Network:
    torch.manual_seed(seed)
    network = _Network(cells.shape[-1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.05)
    rare = (1 - labels).sum() / labels.sum()
    for _ in range(_STEPS):
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(network(cells, organs), labels, pos_weight=rare).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval()
