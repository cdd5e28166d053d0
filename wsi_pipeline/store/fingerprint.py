"""Names that change when content could: a hash of everything a stage depends on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wsi_pipeline.cases.files import files_of
from wsi_pipeline.cases.location import Location

_SAMPLE = 64 * 1024


def fingerprint(**parts: Any) -> str:
    """16 hex digits of the canonical JSON of `parts`; pydantic models count by their values."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a fingerprint")


def input_identity(path: Location) -> str:
    """What a slide is, without reading gigabytes: size, time, first and last 64 KiB of each file.

    A DICOM slide counts with all instances of its series, an `.mrxs` with its sidecar folder.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in files_of(path):
        stat = file.stat()
        digest.update(f"{file.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE))
            stream.seek(max(0, stat.st_size - _SAMPLE))
            digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()[:32]
