"""The token store: T vectors per patch from an encoder's vision tower, before its projector.

Stored before the projector because pooling commutes there: a coarser T is a mean on read, and equals
pooling at encoding. What was computed in float32 is stored in float32, bfloat16 in float16, which holds it exactly
from 6e-5 to 65,504.
"""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from zarr.codecs import Crc32cCodec, ZstdCodec

from wsi_pipeline.errors import StoreError
from wsi_pipeline.store.group import array_in, open_complete, stamp

SCHEMA = 2
STORED: dict[str, np.dtype[Any]] = {"float32": np.dtype("f4"), "bfloat16": np.dtype("f2")}
"""On disk, by the arithmetic of the encoder."""
_CHUNK_BYTES = 4 * 1024 * 1024


class TokenFacts(BaseModel):
    """How tokens came to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slide_id: str
    model: str
    revision: str
    """Commit of the hub checkpoint, or a hash of the local weights."""
    dtype: str
    tokens_per_patch: int
    dim: int
    patches_fingerprint: str


class TokenWriter:
    """Write tokens (n, T, D) in order into a partial folder, as `STORED` of `dtype` says."""

    def __init__(self, path: Path, count: int, tokens_per_patch: int, dim: int, dtype: str) -> None:
        self._root = zarr.open_group(path, mode="w", zarr_format=3)
        rows = max(1, _CHUNK_BYTES // (STORED[dtype].itemsize * tokens_per_patch * dim))
        self._tokens = self._root.create_array(
            "tokens",
            shape=(count, tokens_per_patch, dim),
            dtype=STORED[dtype],
            chunks=(min(rows, max(count, 1)), tokens_per_patch, dim),
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
        self._pending: list[NDArray[np.floating]] = []
        self._held = self._written = 0

    def append(self, tokens: NDArray[np.float32]) -> None:
        """Add the next batch.

        Raises:
            StoreError: a value is not finite.
        """
        with np.errstate(over="ignore"):
            stored = tokens.astype(self._tokens.dtype)
        if not np.isfinite(stored).all():
            raise StoreError(
                "tokens", f"hold values that are not finite in {stored.dtype}", "encode with --dtype float32"
            )
        self._pending.append(stored)
        self._held += len(tokens)
        if self._held >= self._tokens.chunks[0]:
            self._flush(self._held - self._held % self._tokens.chunks[0])

    def close(self, facts: TokenFacts) -> None:
        """Write what is pending and the facts."""
        self._flush(self._held)
        if self._written != self._tokens.shape[0]:
            raise StoreError(facts.slide_id, f"{self._written} of {self._tokens.shape[0]} patches were encoded")
        stamp(self._root, SCHEMA, self._written, facts)

    def _flush(self, rows: int) -> None:
        if rows:
            held = np.concatenate(self._pending)
            self._tokens[self._written : self._written + rows] = held[:rows]
            self._pending, self._held = [held[rows:]], len(held) - rows
            self._written += rows


class TokenStore:
    """The tokens of one slide: `store.tokens` (N, T, D), or coarser through `read`.

    Raises:
        StoreError: the folder is no complete token store of this schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._root, self.facts = open_complete(self.path, "token", "tokens", SCHEMA, TokenFacts)

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    def __repr__(self) -> str:
        return f"TokenStore({self.facts.slide_id}: {len(self)} × {self.facts.tokens_per_patch} tokens)"

    @property
    def tokens(self) -> zarr.Array[Any]:
        """(N, T, D) f4 or f2, read on access."""
        return array_in(self._root, "tokens")

    def read(self, start: int, stop: int, tokens_per_patch: int) -> NDArray[np.float32]:
        """Patches `start:stop` at `tokens_per_patch` (n, T, D) f4, pooled when stored finer.

        Raises:
            StoreError: a value is not finite, or that T cannot be pooled from what is stored.
        """
        stored = np.asarray(self.tokens[start:stop], np.float32)
        if not np.isfinite(stored).all():
            raise StoreError(self.path, "holds tokens that are not finite", "delete it and run again")
        return pool(stored, tokens_per_patch)


def pool(tokens: NDArray[np.float32], tokens_per_patch: int) -> NDArray[np.float32]:
    """Average an (n, s·s, D) token grid down to (n, t·t, D).

    Raises:
        StoreError: t·t tokens cannot be averaged from s·s.
    """
    side, target = isqrt(tokens.shape[1]), isqrt(tokens_per_patch)
    if side * side != tokens.shape[1] or target * target != tokens_per_patch or side % max(target, 1):
        raise StoreError(
            "tokens",
            f"{tokens_per_patch} tokens per patch cannot be averaged from {tokens.shape[1]}",
            "choose a square number whose root divides the stored grid",
        )
    k = side // target
    grid = tokens.reshape(len(tokens), target, k, target, k, tokens.shape[2])
    return np.asarray(grid.mean(axis=(2, 4)).reshape(len(tokens), tokens_per_patch, -1), np.float32)
