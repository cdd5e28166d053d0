"""What patch and token stores share: a zarr group with a schema, a count, facts, and nothing missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr
from pydantic import BaseModel

from wsi_pipeline.errors import StoreError

Facts = TypeVar("Facts", bound=BaseModel)


def stamp(group: zarr.Group, schema: int, count: int, facts: BaseModel) -> None:
    """Write what `open_complete` will ask for; the last act of a writer."""
    group.attrs.update({"schema": schema, "count": count, "facts": facts.model_dump(mode="json")})


def open_complete(path: Path, kind: str, main: str, schema: int, facts: type[Facts]) -> tuple[zarr.Group, Facts]:
    """Open a store read-only.

    Args:
        path: its folder.
        kind: what to call it in errors.
        main: the array whose rows `count` counts.
        schema: the only one understood.
        facts: type of its facts.

    Raises:
        StoreError: it is something else, of another schema, or a part of it is gone.
    """
    try:
        group = zarr.open_group(path, mode="r")
        found, count = group.attrs["schema"], group.attrs["count"]
        known = facts.model_validate(group.attrs["facts"])
        array = array_in(group, main)
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(path, f"is no {kind} store ({error})", "delete it and run again") from error
    if found != schema or count != array.shape[0] or not all(_all_chunks_present(a) for _, a in group.arrays()):
        raise StoreError(path, f"is incomplete or of schema {found}", "delete it and run again")
    return group, known


def array_in(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array of a group.

    Raises:
        KeyError: there is none of that name.
    """
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise KeyError(name)
    return array


def _all_chunks_present(array: zarr.Array[Any]) -> bool:
    """Whether every shard or chunk of a local array is on disk: zarr reads an absent one as fill, without error."""
    step = array.shards or array.chunks
    grid = [-(-length // size) for length, size in zip(array.shape, step, strict=True)]
    root = Path(str(array.store_path).removeprefix("file://"))
    return all((root / array.metadata.encode_chunk_key(place)).is_file() for place in np.ndindex(*grid))
