"""Patches through a vision tower, batch by batch, so that the device never waits for the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_pipeline.encoders.vision import VisionTower
from wsi_pipeline.errors import ModelError
from wsi_pipeline.events import emit
from wsi_pipeline.store.patches import PatchStore

BATCH = {"cuda": 32, "cpu": 16}
"""Patches by device."""

_Tokens = NDArray[np.float32]
_Fetch = Callable[[], _Tokens]
"""Waits for tokens that the device was asked for."""


class Batches:
    """Encodes patch stores by one tower, where that lies.

    Attributes:
        tower: the tower.
        size: patches at a time; halved for good when memory runs out.
    """

    def __init__(self, tower: VisionTower, size: int | None = None) -> None:
        self.tower = tower
        self._device = tower.mean.device
        self.size = size or BATCH[self._device.type]

    def tokens(self, patches: PatchStore, tokens_per_patch: int) -> Iterator[_Tokens]:
        """(n, T, D) of all patches, in order: while one batch is fetched, the device has the next to work on.

        Raises:
            ModelError: T does not fit the tower's grid, or one patch is too much for the device's memory.
            StoreError: patches cannot be read.
        """
        behind: _Fetch | None = None
        for batch in _brought(patches, self.size, self._device):
            ahead = self._started(batch, tokens_per_patch)
            if behind:
                yield behind()
            behind = ahead
        if behind:
            yield behind()

    def _started(self, batch: Tensor, tokens_per_patch: int) -> _Fetch:
        """In as many pieces as memory asks for; later batches are tried in pieces of that size."""
        parts: list[_Fetch] = []
        done = 0
        while done < len(batch):
            piece = batch[done : done + self.size]
            try:
                parts.append(_encoded(self.tower, piece, tokens_per_patch))
                done += len(piece)
                continue
            except torch.OutOfMemoryError:
                if len(piece) == 1:
                    raise ModelError(
                        "the vision tower", "one patch does not fit the device's memory", "use a larger GPU"
                    ) from None
            # out here the error is gone, and what its frames held with it
            torch.cuda.empty_cache()
            self.size = max(1, len(piece) // 2)
            emit("encode.smaller_batch", batch_size=self.size)
        return lambda: np.concatenate([part() for part in parts])


def _brought(patches: PatchStore, size: int, device: torch.device) -> Iterator[Tensor]:
    """Batches in order on `device`, the next one decoded and brought there while it works on this one."""
    batches = patches.batches(size)
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def bring() -> Tensor | None:
        if (batch := next(batches, None)) is None:
            return None
        with torch.cuda.stream(stream):
            there = torch.from_numpy(batch).to(device)
            if stream:
                stream.synchronize()
        return there

    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(bring)
        while (batch := upcoming.result()) is not None:
            upcoming = reader.submit(bring)
            if stream:  # its memory must not be used anew before the work on it is done
                batch.record_stream(torch.cuda.current_stream(device))
            yield batch


# float32 means float32: PyTorch lets convolutions round to ten bits, which makes tokens depend on their batch
@torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
@torch.inference_mode()
def _encoded(tower: VisionTower, piece: Tensor, tokens_per_patch: int) -> _Fetch:
    tokens = tower(piece, tokens_per_patch).float().to("cpu", non_blocking=True)
    if not piece.is_cuda:
        return lambda: np.asarray(tokens.numpy())
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def fetched() -> _Tokens:
        arrived.synchronize()
        return np.asarray(tokens.numpy())

    return fetched
