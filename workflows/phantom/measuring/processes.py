"""Processes that read cases side by side."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def single_core_processes(workers: int) -> ProcessPoolExecutor:
    """So many processes that compute on one core each; they begin afresh, as torch's threads do not survive a fork."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_on_one_core)


def _on_one_core() -> None:
    import torch

    torch.set_num_threads(1)
