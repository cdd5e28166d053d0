"""Train a checkpoint to write: sequences of patch tokens and their report text in, next words out.

The loss is on the answer only. Three auxiliary heads, thrown away afterwards, carry learning over the
plateau where answers are fluent and slides are mixed up: at each marker that closes a chunk "what does this
chunk show", at each soft token "which slide is this", at each answer line "what does this slide show".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from reporters.profiles import Profile
from reporters.sequence import Grammar
from reporters.sequence import Sequence as Input
from reporters.training.parallel import Replicas, one_core_each
from wsi_pipeline.events import emit

_EARLY, _MIDDLE = 2, 3
"""Layers after which the auxiliary heads listen: the last local one before, and the first global one."""


@dataclass(frozen=True)
class Truth:
    """Classes for the auxiliary heads; normal ones are numbered before lesions.

    Attributes:
        patches: per slide (n,) class of each patch.
        slides: class of each slide's line in the answer; these may be finer than those of patches.
    """

    patches: Sequence[NDArray[np.int64]]
    slides: Sequence[int]


@dataclass(frozen=True)
class TrainingCase:
    """One input and its answer to learn from.

    Attributes:
        tokens: per slide and patch (T, D), before the projector. Empty for text alone.
        text: the answer.
        truth: for the auxiliary heads; None trains this case without.
        instruction: None for the profile's.
        given: beginning of the answer that is given, and not learnt.
        first_number: of the first slide. Who always counts from one seldom sees large numbers.
    """

    tokens: Sequence[Sequence[NDArray[np.float32]]]
    text: str
    truth: Truth | None = None
    instruction: str | None = None
    given: str = ""
    first_number: int = 1


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
        soft = projector.mm_soft_emb_norm(batch.features) @ projector.mm_input_projection_weight
        embeds = self.model.get_input_embeddings()(batch.ids)
        where = (batch.ids == self.model.config.image_token_index).unsqueeze(-1)
        embeds = embeds.masked_scatter(where, soft.to(embeds.dtype))
        out = self.model.model(
            inputs_embeds=embeds,
            attention_mask=batch.mask,
            token_type_ids=batch.types,
            output_hidden_states=True,
            use_cache=False,
        )
        return out.last_hidden_state, out.hidden_states


@dataclass
class Batch:
    """Padded tensors of several cases."""

    ids: Tensor
    types: Tensor
    mask: Tensor
    features: Tensor
    labels: Tensor
    chunks: tuple[Tensor, Tensor]
    slides: tuple[Tensor, Tensor]
    lines: tuple[Tensor, Tensor]


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
        config = model.config
        self.model, self.tokenizer, self.profile = model, tokenizer, profile
        self.grammar = Grammar(
            tokenizer, profile, config.boi_token_index, config.image_token_index, config.eoi_token_index
        )
        hidden = config.text_config.hidden_size
        heads = Heads(hidden, classes, max(lines, 1), profile.max_slides or 64) if classes else None
        self._learner = Learner(model, heads)
        self.end = tokenizer.convert_tokens_to_ids(profile.end)
        self.colon = tokenizer.encode(":", add_special_tokens=False)[0]
        self.pad = tokenizer.pad_token_id or 0

    def fit(self, streams: Sequence[Iterator[list[TrainingCase]]], steps: int, rate: float = 1e-3) -> list[float]:
        """Take `steps` steps of AdamW with a one-cycle rate; return the answer loss every 50 steps.

        Every step takes a batch of each stream, at the same time.
        """
        for parameter in self.model.model.vision_tower.parameters():
            parameter.requires_grad_(False)
        trained = [p for p in self._learner.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, rate, total_steps=steps, pct_start=max(0.05, 2 / steps)
        )
        replicas = Replicas(self._learner.train(), len(streams))
        curve: list[float] = []
        running: list[float] = []
        with one_core_each():
            for step in range(1, steps + 1):
                replicas.gradients(partial(self._loss, running), streams)
                nn.utils.clip_grad_norm_(trained, 1.0)
                optimiser.step()
                schedule.step()
                if step % 50 == 0:
                    curve.append(round(float(np.mean(sorted(running))), 4))
                    emit("train.writer", step=step, steps=steps, loss=curve[-1])
                    running.clear()
        self.model.eval()
        return curve

    def _loss(self, answers: list[float], learner: Learner, stream: Iterator[list[TrainingCase]]) -> Tensor:
        """Of the next batch; its answer loss is added to `answers`."""
        answer, auxiliary = learner(self.collate(next(stream)))
        answers.append(float(answer.detach()))
        loss: Tensor = answer + 0.5 * auxiliary
        return loss

    @torch.inference_mode()
    def exact(self, cases: list[TrainingCase]) -> list[bool]:
        """Whether each answer is the most likely one word by word, so that greedy generation writes it."""
        batch = self.collate(cases)
        hidden, _ = self._learner.states(batch)
        guess = self.model.lm_head(hidden[:, :-1]).argmax(-1)
        label = batch.labels[:, 1:]
        return [bool(ok) for ok in ((guess == label) | (label < 0)).all(1)]

    def exact_rate(self, cases: list[TrainingCase], batch: int = 10) -> float:
        """Share of `exact` answers."""
        right = [ok for i in range(0, len(cases), batch) for ok in self.exact(cases[i : i + batch])]
        return round(float(np.mean(right)), 4)

    def collate(self, cases: list[TrainingCase]) -> Batch:
        """Pad cases to a batch."""
        inputs = [self._input(case) for case in cases]
        answers = [[*self.tokenizer.encode(c.text, add_special_tokens=False), self.end] for c in cases]
        length = max(len(i.ids) + len(a) for i, a in zip(inputs, answers, strict=True))
        shape = (len(cases), length)
        ids, types = np.full(shape, self.pad), np.zeros(shape, np.int64)
        mask, labels = np.zeros(shape, np.int64), np.full(shape, -100)
        chunks, slides, lines = _Targets(), _Targets(), _Targets()
        for row, (case, made, answer) in enumerate(zip(cases, inputs, answers, strict=True)):
            start, stop = len(made.ids), len(made.ids) + len(answer)
            ids[row, :start], ids[row, start:stop] = made.ids, answer
            types[row, :start], mask[row, :stop] = made.types, 1
            given = len(self.tokenizer.encode(case.given, add_special_tokens=False)) if case.given else 0
            labels[row, start + given : stop] = answer[given:]
            if case.truth is not None:
                self._aim(case, case.truth, made, answer, row * length, chunks, slides, lines)
        nothing = np.zeros((0, self.model.config.vision_config.hidden_size), np.float32)
        features = np.concatenate([nothing, *(patch for c in cases for slide in c.tokens for patch in slide)])
        return Batch(
            ids=torch.from_numpy(ids),
            types=torch.from_numpy(types),
            mask=torch.from_numpy(mask),
            features=torch.from_numpy(features.astype(np.float32)),
            labels=torch.from_numpy(labels),
            chunks=chunks.tensors(),
            slides=slides.tensors(),
            lines=lines.tensors(),
        )

    def _input(self, case: TrainingCase) -> Input:
        instruction = self.profile.prompt if case.instruction is None else case.instruction
        grids = [[len(patch) for patch in slide] for slide in case.tokens]
        return self.grammar.sequence(grids, instruction, case.first_number)

    def _aim(
        self,
        case: TrainingCase,
        truth: Truth,
        made: Input,
        answer: list[int],
        offset: int,
        chunks: _Targets,
        slides: _Targets,
        lines: _Targets,
    ) -> None:
        labels = np.concatenate(truth.patches)
        normal = int(labels.min())
        for position, _, first, last in made.chunk_ends:
            # a chunk shows the lesion when any of its patches does; benign classes sort before lesions
            chunks.add(offset + position, int(labels[first:last].max(initial=normal)))
        numbers = np.repeat(np.arange(len(truth.patches)) + case.first_number, [len(p) for p in truth.patches])
        slides.extend(offset + made.soft[made.grids.cumsum() - 1], numbers)
        colons = [k for k, token in enumerate(answer) if token == self.colon][: len(truth.slides)]
        lines.extend(np.array(colons) + offset + len(made.ids), np.array(truth.slides))


class _Targets:
    """Flat positions and classes, collected."""

    def __init__(self) -> None:
        self.where: list[int] = []
        self.what: list[int] = []

    def add(self, where: int, what: int) -> None:
        self.where.append(where)
        self.what.append(what)

    def extend(self, where: NDArray[np.int64], what: NDArray[np.int64]) -> None:
        self.where.extend(int(v) for v in where)
        self.what.extend(int(v) for v in what)

    def tensors(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.where, dtype=torch.long), torch.tensor(self.what, dtype=torch.long)
