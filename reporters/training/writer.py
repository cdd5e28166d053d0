"""Train a checkpoint to write: sequences of patch tokens and their report text in, next words out.

The loss is on the answer only. Three auxiliary heads, thrown away afterwards, carry learning over the
plateau where answers are fluent and slides are mixed up: at each marker that closes a chunk "what does this
chunk show", at each soft token "which slide is this", at each answer line "what does this slide show".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reporters.profiles import Profile
from reporters.training.batches import Batch, Collator, TrainingCase
from reporters.training.compiled import compiled
from reporters.training.parallel import Replicas, one_core_each
from wsi_pipeline.events import emit

_EARLY, _MIDDLE = 2, 3
"""Layers after which the auxiliary heads listen: the last local one before, and the first global one."""
_AUXILIARY = 0.5
"""Weight of their losses beside the answer's."""
POINT = 50
"""Steps whose mean answer loss is a point of the curve."""


class Heads(nn.Module):
    """The auxiliary classifiers."""

    def __init__(self, hidden: int, classes: int, lines: int, slides: int) -> None:
        super().__init__()
        self.chunk, self.line = nn.Linear(hidden, classes), nn.Linear(hidden, lines)
        self.slide = nn.Linear(hidden, slides + 1)


class Learner(nn.Module):
    """The model that learns and its heads, as one module."""

    def __init__(self, model: Any, heads: Heads | None) -> None:
        super().__init__()
        self.model, self.heads = model, heads

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Answer loss and the sum of auxiliary losses."""
        hidden, states = self.states(batch)
        wanted = batch.labels[:, 1:] >= 0
        logits = self.model.lm_head(hidden[:, :-1][wanted])
        answer = functional.cross_entropy(logits, batch.labels[:, 1:][wanted])
        auxiliary = answer.new_zeros(())
        if self.heads is None:
            return answer, auxiliary
        early, middle = states[_EARLY].flatten(0, 1), states[_MIDDLE].flatten(0, 1)
        for head, state, (where, target) in (
            (self.heads.chunk, early, batch.chunks),
            (self.heads.slide, early, batch.slides),
            (self.heads.line, middle, batch.lines),
        ):
            if len(where):
                auxiliary = auxiliary + functional.cross_entropy(head(state[where]), target)
        return answer, auxiliary

    def states(self, batch: Batch) -> tuple[Tensor, Any]:
        """Last hidden state, and those of all layers."""
        projector = self.model.model.multi_modal_projector
        soft = projector.mm_soft_emb_norm(batch.features.float()) @ projector.mm_input_projection_weight
        embeds = self.model.get_input_embeddings()(batch.ids)
        where = (batch.ids == self.model.config.image_token_index).unsqueeze(-1)
        return batch.rows.states(self.model, embeds.masked_scatter(where, soft.to(embeds.dtype)))


class _Learning:
    """AdamW with a one-cycle rate on all but the vision tower, and the curve of the answer loss."""

    def __init__(self, learner: Learner, steps: int, rate: float) -> None:
        for parameter in learner.model.model.vision_tower.parameters():
            parameter.requires_grad_(False)
        self._trained = [p for p in learner.train().parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(self._trained, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, rate, total_steps=steps, pct_start=max(0.05, 2 / steps)
        )
        self._steps, self._done = steps, 0
        self._running: list[float | Tensor] = []
        self.curve: list[float] = []

    def step(self, answers: Sequence[float | Tensor]) -> None:
        """Learn from the gradients that are there; `answers` are the losses they come from."""
        nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimiser.step()
        self._schedule.step()
        self._done += 1
        self._running += answers
        if self._done % POINT == 0:
            self.curve.append(round(float(np.mean(sorted(map(float, self._running)))), 4))
            emit("train.writer", step=self._done, steps=self._steps, loss=self.curve[-1])
            self._running.clear()


class WriterTrainer:
    """Trains the projector and the language model of `model` in place.

    Args:
        model: a `Gemma3ForConditionalGeneration`.
        tokenizer: its tokenizer.
        profile: grammar and prompt.
        classes: of patches; 0 trains without auxiliary heads.
        lines: classes of slides' lines.
        seed: of the heads.
    """

    def __init__(
        self, model: Any, tokenizer: Any, profile: Profile, classes: int, lines: int = 0, seed: int = 0
    ) -> None:
        torch.manual_seed(seed)
        self.model, self.profile = model, profile
        self.collator = Collator(model.config, tokenizer, profile)
        hidden = model.config.text_config.hidden_size
        heads = Heads(hidden, classes, max(lines, 1), profile.max_slides or 64) if classes else None
        self.learner = Learner(model, heads)

    def fit(self, streams: Sequence[Iterator[list[TrainingCase]]], steps: int, rate: float = 1e-3) -> list[float]:
        """Take `steps` steps of AdamW with a one-cycle rate; return the answer loss every `POINT` steps.

        Every step takes a batch of each stream, at the same time.
        """
        learning = _Learning(self.learner, steps, rate)
        replicas = Replicas(self.learner, len(streams))
        with one_core_each():
            for _ in range(steps):
                answers: list[float] = []
                replicas.gradients(partial(self._loss, answers), streams)
                learning.step(answers)
        self.model.eval()
        return learning.curve

    def fit_packed(self, batches: Iterable[Batch], steps: int, rate: float) -> list[float]:
        """The same on one device, where a step takes one batch, a long row of many cases."""
        device = self.model.device
        learning = _Learning(self.learner.to(device), steps, rate)
        with compiled(self.model.model.language_model.layers, device):
            for batch in islice(batches, steps):
                self.learner.zero_grad()
                answer, auxiliary = self.learner(batch.to(device))
                (answer + _AUXILIARY * auxiliary).backward()
                learning.step([answer.detach()])
        self.model.eval()
        return learning.curve

    def _loss(self, answers: list[float], learner: Learner, stream: Iterator[list[TrainingCase]]) -> Tensor:
        """Of the next batch; its answer loss is added to `answers`."""
        answer, auxiliary = learner(self.collator.padded(next(stream)))
        answers.append(float(answer.detach()))
        loss: Tensor = answer + _AUXILIARY * auxiliary
        return loss

    @torch.inference_mode()
    def exact(self, cases: list[TrainingCase]) -> list[bool]:
        """Whether each answer is the most likely one word by word, so that greedy generation writes it."""
        batch = self.collator.padded(cases).to(self.model.device)
        hidden, _ = self.learner.states(batch)
        guess = self.model.lm_head(hidden[:, :-1]).argmax(-1)
        label = batch.labels[:, 1:]
        return [bool(ok) for ok in ((guess == label) | (label < 0)).all(1)]

    def exact_rate(self, cases: list[TrainingCase], batch: int = 10) -> float:
        """Share of `exact` answers."""
        right = [ok for i in range(0, len(cases), batch) for ok in self.exact(cases[i : i + batch])]
        return round(float(np.mean(right)), 4)
