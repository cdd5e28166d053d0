"""The writer's cycle on long rows: parts of up to fifty slides and tens of thousands of patches, on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from reporters.profiles import Profile
from reporters.training.batches import Batch, Collator
from reporters.training.writer import WriterTrainer
from workflows.phantom.training.labels import CLASSES
from workflows.phantom.training.lessons import LearntSlide, Lessons
from workflows.phantom.training.recipe import LongCycle

_AHEAD = 2
"""Rows that each worker has ready; all of them lie in shared memory, some 20 MB each."""


class _Rows(IterableDataset[Batch]):
    """Packed rows without end, of other cases in each worker."""

    def __init__(
        self, slides: list[LearntSlide], cycle: LongCycle, collator: Collator, profile: Profile, seed: int
    ) -> None:
        self._slides, self._cycle, self._collator, self._profile = slides, cycle, collator, profile
        self._seed = seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number = worker.id if worker else 0
        lessons = Lessons(self._slides, max(1, self._cycle.workers) * self._seed + number)
        return self._collator.in_rows(lessons.long(self._cycle, self._profile), self._cycle.row)


def long_profile(profile: Profile, cycle: LongCycle) -> Profile:
    """What a checkpoint is made for once it went through the cycle: it reads best at one token per patch."""
    made_for = {"max_slides": cycle.slides, "context": cycle.context, "trained_tokens": (1,), "mixes": False}
    return profile.model_copy(update={"name": "phantom-long", **made_for})


def teach_long(
    model: Any, tokenizer: Any, profile: Profile, slides: list[LearntSlide], cycle: LongCycle, seed: int, device: str
) -> list[float]:
    """Teach the writer of `model` on a device; the answer loss every 50 steps.

    Weights come out the same only as far as a GPU sums in the same order.
    """
    trainer = WriterTrainer(model, tokenizer, profile, len(CLASSES), 2 * len(CLASSES), seed)
    rows = DataLoader(
        _Rows(slides, cycle, trainer.collator, profile, seed),
        batch_size=None,
        num_workers=cycle.workers,
        prefetch_factor=_AHEAD if cycle.workers else None,
    )
    model.to(device)
    curve = trainer.fit_packed(rows, cycle.steps, cycle.rate)
    model.to("cpu")
    return curve
