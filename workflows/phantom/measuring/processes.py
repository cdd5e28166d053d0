"""Processes that read cases side by side."""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context


def single_core_processes(workers: int) -> Executor:
    """So many processes that compute on one core each; they begin afresh, as torch's threads do not survive a fork.

    One alone is this process, which spares it the ten seconds of loading everything once more.
    """
    if workers == 1:
        return ThreadPoolExecutor(1, initializer=_on_one_core)
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_on_one_core)


def _on_one_core() -> None:
    import torch

    torch.set_num_threads(1)
