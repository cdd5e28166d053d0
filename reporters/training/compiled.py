"""Layers compiled for as long as they train on a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def compiled(layers: Iterable[Any], device: torch.device) -> Iterator[None]:
    """Inside, layers on a GPU are compiled for batches of one shape, and multiply in TF32; elsewhere nothing changes.

    On an H200 a step of 65,536 tokens takes 0.105 s instead of 0.12. Compiled for good, they would be again for every
    shape of another device.
    """
    if device.type != "cuda":
        yield
        return
    layers = list(layers)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    for layer in layers:
        layer.compile(dynamic=False)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        for layer in layers:
            layer._compiled_call_impl = None
