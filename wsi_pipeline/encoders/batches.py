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
from wsi_pipeline.models.exact import exact_convolutions
from wsi_pipeline.models.memory import ran_out
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
        self._bringing = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.size = size or BATCH[self._device.type]

    def tokens(self, patches: PatchStore, tokens_per_patch: int) -> Iterator[_Tokens]:
        """(n, T, D) of all patches, in order: while one batch is fetched, the device has the next to work on.

        Raises:
            ModelError: T does not fit the tower's grid, or one patch is too much for the device's memory.
            StoreError: patches cannot be read.
        """
        behind: _Fetch | None = None
        for batch in self._brought(patches):
            ahead = self._started(batch, tokens_per_patch)
            if behind:
                yield behind()
            behind = ahead
        if behind:
            yield behind()

    def _brought(self, patches: PatchStore) -> Iterator[Tensor]:
        """Batches in order, the next one decoded and brought to the device while it works on this one."""
        batches = patches.batches(self.size)
        with ThreadPoolExecutor(1) as reader:
            upcoming = reader.submit(self._bring, batches)
            while (batch := upcoming.result()) is not None:
                upcoming = reader.submit(self._bring, batches)
                if batch.is_cuda:  # its memory must not be used anew before the work on it is done
                    batch.record_stream(torch.cuda.current_stream(self._device))
                yield batch

    def _bring(self, batches: Iterator[NDArray[np.uint8]]) -> Tensor | None:
        """The next batch, on the device; where that has no room now, it is brought piece by piece later."""
        if (batch := next(batches, None)) is None:
            return None
        here = torch.from_numpy(batch)
        if self._bringing is None:
            return here
        try:
            with torch.cuda.stream(self._bringing):
                return here.to(self._device)
        except torch.OutOfMemoryError:
            return here

    def _started(self, batch: Tensor, tokens_per_patch: int) -> _Fetch:
        """In as many pieces as memory asks for; later batches are tried in pieces of that size."""
        parts: list[_Fetch] = []
        done = 0
        while done < len(batch):
            piece = batch[done : done + self.size]
            try:
                parts.append(self._encoded(piece, tokens_per_patch))
                done += len(piece)
                continue
            except RuntimeError as error:
                if not ran_out(error):
                    raise
                if len(piece) == 1:
                    cause = "one patch does not fit the memory that is left"
                    raise ModelError("the vision tower", cause, "use a larger machine") from None
            # out here the error is gone, and what its frames held with it
            batch = batch.cpu()
            torch.cuda.empty_cache()
            self.size = max(1, len(piece) // 2)
            emit("encode.smaller_batch", batch_size=self.size)
        return lambda: np.concatenate([part() for part in parts])

    @torch.inference_mode()
    def _encoded(self, piece: Tensor, tokens_per_patch: int) -> _Fetch:
        with exact_convolutions():
            tokens = self.tower(piece.to(self._device), tokens_per_patch).float()
        if self._bringing is None:
            return lambda: np.asarray(tokens.numpy())
        there = tokens.to("cpu", non_blocking=True)
        arrived = torch.cuda.current_stream(self._device).record_event()

        def fetched() -> _Tokens:
            arrived.synchronize()
            return np.asarray(there.numpy())

        return fetched
