"""Arithmetic that is as exact as its type says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """float32 means float32: a GPU's convolutions are else rounded to ten bits, and tokens depend on their batch."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
