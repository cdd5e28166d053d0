"""Which slides are copies of others: read once, named twice."""

from __future__ import annotations

import filecmp
from pathlib import Path

from wsi_pipeline.cases.files import files_of
from wsi_pipeline.cases.model import Slide


def is_copy(slide: Slide, other: Slide) -> bool:
    """Byte for byte the same, of the same part and to be read in the same way.

    A glass that holds two parts may be filed under both. URLs are never compared: that would fetch both.
    """
    alike = (slide.part, slide.mask, slide.mpp) == (other.part, other.mask, other.mpp)
    a, b = slide.path, other.path
    return alike and isinstance(a, Path) and isinstance(b, Path) and _same_bytes(a, b)


def _same_bytes(a: Path, b: Path) -> bool:
    """Of slides of several files, all count: an index may be the same where images are not."""
    try:
        if not (a.is_file() and b.is_file()) or a.stat().st_size != b.stat().st_size or not a.stat().st_size:
            return False
        some, others = files_of(a), files_of(b)
        return len(some) == len(others) and all(
            filecmp.cmp(one, another, shallow=False) for one, another in zip(some, others, strict=True)
        )
    except OSError:
        return False  # whoever cannot be read gets its own row
