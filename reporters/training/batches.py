"""Cases to learn from, and how they become tensors: padded to one length, or packed behind one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reporters.prefill import image_numbers
from reporters.profiles import Profile
from reporters.sequence import Grammar
from reporters.sequence import Sequence as Input
from reporters.training.rows import LARGEST_IMAGE, Packed, Padded

_NOTHING = -100
"""What cross entropy leaves out."""
_WAITING = 48
"""Cases that wait for a row with room for them; with so many, hardly any room stays empty."""


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


@dataclass(frozen=True)
class Written:
    """A case as token ids: its input, its answer, and how much of that is given."""

    case: TrainingCase
    made: Input
    answer: list[int]
    given: int

    def __len__(self) -> int:
        return len(self.made.ids) + len(self.answer)

    @property
    def ids(self) -> NDArray[np.int64]:
        """(L,) of input and answer."""
        return np.concatenate([self.made.ids, self.answer])

    @property
    def labels(self) -> NDArray[np.int64]:
        """(L,) what is learnt, at its own place."""
        labels = np.full(len(self), _NOTHING)
        labels[len(self.made.ids) + self.given :] = self.answer[self.given :]
        return labels

    @property
    def types(self) -> NDArray[np.int64]:
        """(L,) 1 on soft tokens that attend within their image."""
        return np.concatenate([self.made.types, np.zeros(len(self.answer), np.int64)])


@dataclass
class Batch:
    """Tensors of several cases.

    Attributes:
        ids, labels: (B, L); labels are below 0 where nothing is learnt.
        rows: how the cases lie in them.
        features: (n, D) soft tokens before the projector.
        chunks, slides, lines: where each auxiliary head looks, counted through all rows, and what it should say.
    """

    ids: Tensor
    labels: Tensor
    rows: Padded | Packed
    features: Tensor
    chunks: tuple[Tensor, Tensor]
    slides: tuple[Tensor, Tensor]
    lines: tuple[Tensor, Tensor]

    def to(self, device: torch.device) -> Batch:
        """The same there."""

        def moved(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return pair[0].to(device), pair[1].to(device)

        return Batch(
            ids=self.ids.to(device),
            labels=self.labels.to(device),
            rows=self.rows.to(device),
            features=self.features.to(device),
            chunks=moved(self.chunks),
            slides=moved(self.slides),
            lines=moved(self.lines),
        )


class Collator:
    """Writes cases in the grammar of a checkpoint.

    Args:
        config: of the model.
        tokenizer: its tokenizer.
        profile: grammar and prompt.
    """

    def __init__(self, config: Any, tokenizer: Any, profile: Profile) -> None:
        self._tokenizer, self._profile = tokenizer, profile
        self._grammar = Grammar(
            tokenizer, profile, config.boi_token_index, config.image_token_index, config.eoi_token_index
        )
        self._end = tokenizer.convert_tokens_to_ids(profile.end)
        self._colon = tokenizer.encode(":", add_special_tokens=False)[0]
        self._pad = tokenizer.pad_token_id or 0
        self._dim = config.vision_config.hidden_size

    def written(self, case: TrainingCase) -> Written:
        """As token ids."""
        instruction = self._profile.prompt if case.instruction is None else case.instruction
        grids = [[len(patch) for patch in slide] for slide in case.tokens]
        made = self._grammar.sequence(grids, instruction, case.first_number)
        given = len(self._encoded(case.given)) if case.given else 0
        return Written(case, made, [*self._encoded(case.text), self._end], given)

    def padded(self, cases: Sequence[TrainingCase]) -> Batch:
        """A row for each case."""
        some = [self.written(case) for case in cases]
        shape = (len(some), max(map(len, some)))
        ids, labels = np.full(shape, self._pad), np.full(shape, _NOTHING)
        mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, one in enumerate(some):
            filled = row, slice(len(one))
            ids[filled], labels[filled], types[filled], mask[filled] = one.ids, one.labels, one.types, 1
        rows = Padded(torch.from_numpy(mask), torch.from_numpy(types))
        offsets = [row * shape[1] for row in range(len(some))]
        return self._batch(some, ids, labels, rows, offsets, np.float32)

    def packed(self, some: Sequence[Written], length: int) -> Batch:
        """One row of `length` for all cases, which fit.

        Raises:
            ValueError: a patch of more tokens than `LARGEST_IMAGE`, whose tokens would not all see each other.
        """
        if (most := max((int(one.made.grids.max(initial=0)) for one in some), default=0)) > LARGEST_IMAGE:
            raise ValueError(f"patches of {most} tokens; rows are packed with {LARGEST_IMAGE} at the most")
        offsets = np.cumsum([0, *map(len, some)]).tolist()
        rest = length - offsets[-1]
        filled = np.concatenate([one.ids for one in some]), np.concatenate([one.labels for one in some])
        ids, labels = (
            np.pad(row, (0, rest), constant_values=with_)
            for row, with_ in zip(filled, (self._pad, _NOTHING), strict=True)
        )
        types = np.pad(np.concatenate([one.types for one in some]), (0, rest))
        starts = np.repeat(offsets, [*map(len, some), rest])
        rows = Packed(torch.from_numpy(starts), torch.from_numpy(image_numbers(types)))
        # (half as much travels to a GPU)
        return self._batch(some, ids[None], labels[None], rows, offsets[:-1], np.float16)

    def in_rows(self, cases: Iterator[TrainingCase], length: int) -> Iterator[Batch]:
        """Packed rows without end: the longest case that fits comes next.

        Raises:
            ValueError: a case is longer than a row.
        """
        waiting: list[Written] = []
        while True:
            row: list[Written] = []
            room = length
            while True:
                while len(waiting) < _WAITING:
                    waiting.append(self.written(next(cases)))
                    if len(waiting[-1]) > length:
                        raise ValueError(f"a case of {len(waiting[-1]):,} tokens in rows of {length:,}")
                fitting = [place for place, one in enumerate(waiting) if len(one) <= room]
                if not fitting:
                    break
                row.append(waiting.pop(max(fitting, key=lambda place: len(waiting[place]))))
                room -= len(row[-1])
            yield self.packed(row, length)

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _batch(
        self, some: Sequence[Written], ids: NDArray[np.int64], labels: NDArray[np.int64], rows: Padded | Packed,
        offsets: Sequence[int], precision: type[np.floating[Any]],
    ) -> Batch:  # fmt: skip
        chunks, slides, lines = _Targets(), _Targets(), _Targets()
        for one, offset in zip(some, offsets, strict=True):
            if one.case.truth is not None:
                self._aim(one, one.case.truth, offset, chunks, slides, lines)
        nothing = np.zeros((0, self._dim), precision)
        patches = (patch for one in some for slide in one.case.tokens for patch in slide)
        features = np.concatenate([nothing, *patches], dtype=precision, casting="same_kind")
        return Batch(
            ids=torch.from_numpy(ids),
            labels=torch.from_numpy(labels),
            rows=rows,
            features=torch.from_numpy(features),
            chunks=chunks.tensors(),
            slides=slides.tensors(),
            lines=lines.tensors(),
        )

    def _aim(
        self, one: Written, truth: Truth, offset: int, chunks: _Targets, slides: _Targets, lines: _Targets
    ) -> None:
        made = one.made
        labels = np.concatenate(truth.patches)
        normal = int(labels.min())
        for position, _, first, last in made.chunk_ends:
            # a chunk shows the lesion when any of its patches does; benign classes sort before lesions
            chunks.add(offset + position, int(labels[first:last].max(initial=normal)))
        numbers = np.repeat(np.arange(len(truth.patches)) + one.case.first_number, [len(p) for p in truth.patches])
        slides.extend(offset + made.soft[made.grids.cumsum() - 1], numbers)
        colons = [k for k, token in enumerate(one.answer) if token == self._colon][: len(truth.slides)]
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
        self.where.extend(where.tolist())
        self.what.extend(what.tolist())

    def tensors(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.where, dtype=torch.long), torch.tensor(self.what, dtype=torch.long)
