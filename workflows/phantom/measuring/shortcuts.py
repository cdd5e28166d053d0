"""Classifiers that must not do well: what thumbnails, colours and file facts give away of a diagnosis.

Each sees one kind of easy evidence of whole slides. All are trained on the slides that the checkpoint's writer learns
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tilers.tile import ALGORITHM
from workflows.phantom.drawing.pool import PoolSlide
from workflows.phantom.measuring.scoring import Said, all_benign
from workflows.phantom.pathology import VERSION, Organ
from workflows.phantom.seeds import require
from workflows.phantom.training.labels import CLASSES, number_of
from wsi_pipeline.store.fingerprint import fingerprint
from wsi_pipeline.store.patches import PatchStore

Kind = Literal["thumbnail", "colour", "file"]
KINDS: tuple[Kind, ...] = ("thumbnail", "colour", "file")

_THUMBNAIL = (48, 64)
"""Rows and columns: about 55 µm per pixel."""


def evidence(kind: Kind, store: PatchStore, file_bytes: int) -> NDArray[np.float32]:
    """What one slide gives away.

    Args:
        kind: `thumbnail`: (3, 48, 64) colours of the overview; `colour`: (21,) mean, spread and quantiles of each
            stained channel over tissue; `file`: (8,) sizes, resolution and layout of the file.
        store: the slide's.
        file_bytes: size of its file.
    """
    facts, overview = store.facts, store.thumbnail
    if kind == "thumbnail":
        small = np.asarray(Image.fromarray(overview).resize(_THUMBNAIL[::-1], Image.Resampling.BOX))
        return small.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    if kind == "colour":
        density = -np.log10(np.maximum(overview, 1) / 245)[store.mask]
        if not len(density):
            density = np.zeros((1, 3))
        rows = [density.mean(0), density.std(0), *np.quantile(density, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)]
        return np.concatenate(rows).astype(np.float32)
    width, height = facts.level0_size
    return np.array(
        [
            np.log(file_bytes), np.log(width), np.log(height), np.log(file_bytes / (width * height)),
            facts.mpp, facts.levels, len(store), facts.vendor == "aperio",
        ],
        np.float32,
    )  # fmt: skip


@dataclass(frozen=True)
class Shortcut:
    """A trained classifier of whole slides.

    Attributes:
        kind: what it sees.
        network: evidence to logits over `CLASSES`.
        centre, scale: of the evidence in training.
    """

    kind: Kind
    network: nn.Module
    centre: Tensor
    scale: Tensor

    @torch.inference_mode()
    def probabilities(self, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, classes) of (n, …) evidence."""
        scaled = (torch.from_numpy(evidence) - self.centre) / self.scale
        return np.asarray(self.network(scaled).softmax(-1).numpy())


def train_shortcut(
    kind: Kind, slides: Sequence[PoolSlide], seed: int = 0, steps: int = 2500, keep: Path | None = None
) -> Shortcut:
    """Train on whole slides of known diagnosis; with a folder to `keep` it in, once.

    Raises:
        ValueError: a slide that is none to be trained on.
    """
    seeds = [s.spec.seed for s in slides]
    require("train", seeds)
    known = fingerprint(version=VERSION, tiling=ALGORITHM, kind=kind, seed=seed, steps=steps, slides=seeds)
    file = keep / f"shortcut-{known}.pt" if keep else None
    if file is None or not file.exists():
        shortcut = _trained(kind, slides, seed, steps)
        if file:
            torch.save((shortcut.network.state_dict(), shortcut.centre, shortcut.scale), file)
        return shortcut
    weights, centre, scale = torch.load(file, weights_only=True)
    network = _network(kind, centre.shape[-1])
    network.load_state_dict(weights)
    return Shortcut(kind, network.eval(), centre, scale)


def _trained(kind: Kind, slides: Sequence[PoolSlide], seed: int, steps: int) -> Shortcut:
    torch.manual_seed(seed)
    seen = np.stack([evidence(kind, PatchStore(s.store), s.file_bytes) for s in slides])
    inputs = torch.from_numpy(seen)
    labels = torch.tensor([number_of(s.organ, s.diagnosis) for s in slides])
    axes = (0, 2, 3) if kind == "thumbnail" else (0,)
    centre, scale = inputs.mean(axes, keepdim=True), inputs.std(axes, keepdim=True) + 1e-6
    inputs = (inputs - centre) / scale
    network = _network(kind, inputs.shape[-1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    network.train()
    for _ in range(steps):
        rows = torch.randint(len(inputs), (64,))
        batch = inputs[rows]
        if kind == "thumbnail":
            batch = batch.flip([axis for axis in (2, 3) if torch.rand(()) < 0.5])
        loss = functional.cross_entropy(network(batch), labels[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return Shortcut(kind, network.eval(), centre, scale)


def _network(kind: Kind, size: int) -> nn.Module:
    """Of thumbnails, or of `size` numbers."""
    if kind != "thumbnail":
        return nn.Sequential(nn.Linear(size, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, len(CLASSES)))
    blocks: list[nn.Module] = [nn.Conv2d(3, 24, 4, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU()]
    for before, after in ((24, 48), (48, 96)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    head = (nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(384, len(CLASSES)))
    return nn.Sequential(*blocks, *head)


def said_by(shortcut: Shortcut, organ: Organ, slides: Sequence[PatchStore]) -> Said:
    """What thumbnails say of a part: the lesion its most suspicious slide shows, on the slides that show the same.

    The organ is told to it: 'which organ' is not what is asked of a shortcut.
    """
    seen = np.stack([evidence(shortcut.kind, store, 1) for store in slides])
    own = [number_of(organ, d) for d in organ.diagnoses]
    chances = shortcut.probabilities(seen)[:, own]
    guess = chances.argmax(1)
    benign = all_benign(organ)
    if not guess.any():
        return benign
    found = int(chances[guess > 0][:, 1:].max(0).argmax()) + 1
    named = tuple(int(i) + 1 for i in np.flatnonzero(guess == found))
    return Said(benign.specimen, ((organ.diagnoses[found].text, "", named),))


def right_diagnosis(shortcut: Shortcut, slides: Sequence[PoolSlide]) -> int:
    """How many slides' lesion is the likeliest among those of the organ: organ and that there is one are told."""
    hits = []
    for slide in slides:
        seen = evidence(shortcut.kind, PatchStore(slide.store), slide.file_bytes)[None]
        lesions = slide.organ.lesions
        own = [number_of(slide.organ, d) for d in lesions]
        hits.append(lesions[int(shortcut.probabilities(seen)[0, own].argmax())] == slide.diagnosis)
    return sum(hits)


def chance(slides: Sequence[PoolSlide]) -> float:
    """What guessing among the lesions of the organ gives, knowing that there is one."""
    return float(np.mean([1 / len(s.organ.lesions) for s in slides]))
