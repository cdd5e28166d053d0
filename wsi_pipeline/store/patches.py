"""The patch store: all patches of one slide with their place, tissue and quality (a zarr v3 group).

| array | shape, type | meaning |
|---|---|---|
| `patches` | (N, P, P, 3) u1 | RGB at the target resolution, or near it (`patch_mpp`) |
| `coords` | (N, 2) i4 | level-0 x, y of the top left pixel |
| `tissue` | (N,) f4 | tissue fraction of the patch |
| `quality` | (N, Q) f4 | the columns named in `quality_columns` |
| `thumbnail` | (h, w, 3) u1 | overview |
| `mask` | (h, w) bool | tissue on the overview |

A shard has one writer and is written once: interleaved writers inside a shard lose patches silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from zarr.codecs import Crc32cCodec, ZstdCodec

from wsi_pipeline.errors import StoreError
from wsi_pipeline.store.codec import JpegCodec
from wsi_pipeline.store.group import array_in, open_complete, stamp

SCHEMA = 2
SHARD = 16
"""Patches per shard: 16 × 1.7 MB is what a writer holds in memory."""


_LOSSLESS = [ZstdCodec(level=3), Crc32cCodec()]
# a patch of plain white and an empty mask are written too: on disk, absent means lost
_WRITE_ALL: Any = {"write_empty_chunks": True}


class SlideFacts(BaseModel):
    """What the tiler learnt about a slide; stored with its patches. Never a label, never a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slide_id: str
    reader: str
    requested_reader: str
    refused_readers: dict[str, str] = {}
    level0_size: tuple[int, int]
    origin: tuple[int, int]
    """Level-0 x, y of the scanned area: the corner of grid, thumbnail and mask."""
    scanned: tuple[int, int]
    """Level-0 width and height of the scanned area, which thumbnail and mask span."""
    levels: int
    """Of the file."""
    mpp: float
    """µm per pixel of level 0 as resolved."""
    mpp_source: str
    warnings: tuple[str, ...] = ()
    vendor: str | None = None
    objective_power: float | None = None
    phantom: bool = False
    """The file says it is a synthetic slide of this project."""
    patch_size: int
    target_mpp: float
    patch_level0: float
    """Edge of a patch in level-0 pixels."""
    read_downsample: float
    """Of the pixels that patches were averaged from, against level 0."""
    overview_mpp: float
    tissue_mm2: float
    tissue_left_mm2: float
    """Tissue in no patch: fragments too small, and slivers in patches below the tissue threshold."""
    patches_expected: int
    patches_unreadable: int
    patches_disagreeing: int = 0
    """Of the unreadable ones, those that decode and show something else than the overview."""
    quality_columns: tuple[str, ...]

    @property
    def patch_mpp(self) -> float:
        """µm per pixel of a patch; `target_mpp` is what was asked for."""
        return self.patch_level0 / self.patch_size * self.mpp

    @property
    def tissue_left(self) -> float:
        """Share of the tissue that lies in no patch."""
        return self.tissue_left_mm2 / self.tissue_mm2 if self.tissue_mm2 else 0.0


MOST_LEFT = 0.05
"""Share of a slide's tissue that may lie in no patch, at its edges; with more, its part was not read whole."""


class PatchWriter:
    """Write patches in order, whole shards at a time, into a partial folder."""

    def __init__(self, path: Path, expected: int, patch_size: int, codec: str, jpeg_quality: int) -> None:
        self._root = zarr.open_group(path, mode="w", zarr_format=3)
        image = (1, patch_size, patch_size, 3)
        options: dict[str, Any] = (
            {"serializer": JpegCodec(quality=jpeg_quality), "compressors": Crc32cCodec()}
            if codec == "jpeg"
            else {"compressors": _LOSSLESS}
        )
        self._patches = self._root.create_array(
            "patches",
            shape=(expected, *image[1:]),
            dtype="u1",
            chunks=image,
            shards=(SHARD, *image[1:]),
            fill_value=255,
            config=_WRITE_ALL,
            **options,
        )
        self._shard = np.empty((SHARD, *image[1:]), np.uint8)
        self._written = 0
        self._rows: list[tuple[tuple[int, int], float, tuple[float, ...]]] = []

    def append(self, patch: NDArray[np.uint8], xy: tuple[int, int], tissue: float, quality: tuple[float, ...]) -> None:
        """Add the next patch."""
        self._shard[len(self._rows) % SHARD] = patch
        self._rows.append((xy, tissue, quality))
        if len(self._rows) % SHARD == 0:
            self.flush()

    def close(self, facts: SlideFacts, thumbnail: NDArray[np.uint8], mask: NDArray[np.bool_]) -> int:
        """Write what is pending, the columns and the facts; return the number of patches."""
        self.flush()
        count = len(self._rows)
        self._patches.resize((count, *self._patches.shape[1:]))
        columns = {
            "coords": np.array([r[0] for r in self._rows], "i4").reshape(count, 2),
            "tissue": np.array([r[1] for r in self._rows], "f4"),
            "quality": np.array([r[2] for r in self._rows], "f4").reshape(count, len(facts.quality_columns)),
            "thumbnail": thumbnail,
            "mask": mask,
        }
        for name, values in columns.items():
            self._root.create_array(name, data=values, compressors=_LOSSLESS, config=_WRITE_ALL)
        stamp(self._root, SCHEMA, count, facts)
        return count

    def flush(self) -> None:
        """Write what is pending; a shard that is not full yet will be written once more."""
        start, stop = self._written, len(self._rows)
        if stop > start:
            first = start % SHARD
            self._patches[start:stop] = self._shard[first : first + stop - start]
            self._written = stop


class PatchStore:
    """The patches of one slide, as arrays: `store.patches[i]`, `store.coords`, `store.facts`.

    Raises:
        StoreError: the folder is no complete patch store of this schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._root, self.facts = open_complete(self.path, "patch", "patches", SCHEMA, SlideFacts)

    def __len__(self) -> int:
        return int(self.patches.shape[0])

    def __repr__(self) -> str:
        return f"PatchStore({self.facts.slide_id}: {len(self)} patches)"

    @property
    def patches(self) -> zarr.Array[Any]:
        """(N, P, P, 3) u1, decoded on access. Index with integers or slices (`oindex` is 50× slower)."""
        return array_in(self._root, "patches")

    @property
    def coords(self) -> NDArray[np.int32]:
        """(N, 2) level-0 x, y."""
        return np.asarray(array_in(self._root, "coords")[:])

    @property
    def tissue(self) -> NDArray[np.float32]:
        """(N,) tissue fraction."""
        return np.asarray(array_in(self._root, "tissue")[:])

    @property
    def quality(self) -> dict[str, NDArray[np.float32]]:
        """Quality columns by name, (N,) each."""
        values = np.asarray(array_in(self._root, "quality")[:])
        return {name: values[:, i] for i, name in enumerate(self.facts.quality_columns)}

    @property
    def thumbnail(self) -> NDArray[np.uint8]:
        """(h, w, 3) overview at `facts.overview_mpp`."""
        return np.asarray(array_in(self._root, "thumbnail")[:])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(h, w) tissue on the overview."""
        return np.asarray(array_in(self._root, "mask")[:])

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Patches in order, `size` at a time."""
        for start in range(0, len(self), size):
            try:
                yield np.asarray(self.patches[start : start + size])
            except ValueError as error:
                raise StoreError(self.path, f"is damaged ({error})", "delete it and run again") from error
