"""The encoding stage: one patch store in, one token store out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from wsi_pipeline.encoders.batches import Batches
from wsi_pipeline.encoders.vision import VisionTower, load_tower
from wsi_pipeline.events import emit
from wsi_pipeline.models import Checkpoint, pick_device
from wsi_pipeline.store.fingerprint import fingerprint
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.publish import publishing
from wsi_pipeline.store.tokens import SCHEMA, TokenFacts, TokenWriter

ALGORITHM = 1
"""Raised whenever the same patches and weights would give other tokens."""


def tokens_fingerprint(checkpoint_revision: str, dtype: str, tokens_per_patch: int, patches: str) -> str:
    """The name of a token store: model revision, arithmetic, T and the patch store's own name."""
    return fingerprint(
        stage="encode",
        schema=SCHEMA,
        algorithm=ALGORITHM,
        model=checkpoint_revision,
        dtype=dtype,
        tokens=tokens_per_patch,
        patches=patches,
    )


class Encoder:
    """A loaded vision tower that turns patch stores into token stores.

    Args:
        checkpoint: whose tower.
        dtype: torch dtype name of its arithmetic.
        batch_size: patches at a time; default by device, halved when memory runs out.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str, batch_size: int | None = None) -> None:
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.tower: VisionTower = load_tower(checkpoint, pick_device(), getattr(torch, self.dtype))
        self.batches = Batches(self.tower, batch_size)

    def encode(self, patches: PatchStore, patches_name: str, tokens_per_patch: int, final: Path) -> None:
        """Write the tokens of `patches` to `final`.

        Raises:
            ModelError: T does not fit the tower's grid, or one patch is too much for the device's memory.
            StoreError: the disk refuses, or tokens are not finite.
        """
        total, slide = len(patches), patches.facts.slide_id
        emit("encode.start", slide=slide, total=total)
        with publishing(final) as partial, ThreadPoolExecutor(1) as thread:
            writer = TokenWriter(partial, total, tokens_per_patch, self.tower.dim, self.dtype)
            done, written = 0, thread.submit(lambda: None)
            for tokens in self.batches.tokens(patches, tokens_per_patch):
                written.result()  # those before are written while the device works on the next
                written = thread.submit(writer.append, tokens)
                done += len(tokens)
                emit("encode.progress", slide=slide, done=done, total=total)
            written.result()
            writer.close(
                TokenFacts(
                    slide_id=slide,
                    model=self.checkpoint.name,
                    revision=self.checkpoint.revision,
                    dtype=self.dtype,
                    tokens_per_patch=tokens_per_patch,
                    dim=self.tower.dim,
                    patches_fingerprint=patches_name,
                )
            )
