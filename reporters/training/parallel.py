"""Gradients of several batches at the same time, a thread and a core for each.

The models trained here are so small that one batch spread over two cores leaves most of the second idle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

Learner = TypeVar("Learner", bound=nn.Module)
Batch = TypeVar("Batch")


class Replicas:
    """A module and copies of it that share its weights, each with gradients of its own.

    Args:
        module: to be trained; in training mode already.
        count: batches at the same time.
    """

    def __init__(self, module: nn.Module, count: int) -> None:
        self._modules = [module, *(_sharing(module) for _ in range(count - 1))]
        self._pool = ThreadPoolExecutor(count)

    def gradients(self, loss: Callable[[Learner, Batch], Tensor], batches: Sequence[Batch]) -> Tensor:
        """Give the parameters the mean gradient of `loss(module, batch)` over the batches; return the losses."""

        def differentiate(module: Learner, batch: Batch) -> Tensor:
            module.zero_grad()
            value = loss(module, batch)
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        if len(self._modules) == 1:
            return differentiate(self._modules[0], batches[0])[None]  # type: ignore[arg-type]
        losses = torch.stack(list(self._pool.map(differentiate, self._modules, batches)))
        for parameter, *others in zip(*(m.parameters() for m in self._modules), strict=True):
            found = [p.grad for p in (parameter, *others) if p.grad is not None]
            if found:
                parameter.grad = torch.stack(found).sum(0) / len(self._modules)
        return losses


def _sharing(module: nn.Module) -> nn.Module:
    copy = deepcopy(module)
    for own, shared in zip(copy.parameters(), module.parameters(), strict=True):
        own.data = shared.data
    return copy


@contextmanager
def one_core_each() -> Iterator[None]:
    """Inside, every thread computes on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
