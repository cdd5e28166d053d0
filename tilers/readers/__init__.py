"""Open a slide: `auto` tries the readers in order and says why each refused; a chosen one never falls back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tilers.readers.base import Reader, UndecodableRegion
from wsi_pipeline.cases.files import UNSUPPORTED, count_series
from wsi_pipeline.cases.location import Location
from wsi_pipeline.errors import SlideError

# what it says of damaged files, line by line on standard error, our own errors say once
logging.getLogger("tifffile").addHandler(logging.NullHandler())

__all__ = ["READERS", "Opened", "Reader", "UndecodableRegion", "open_slide"]


def _direct(path: Location) -> Reader:
    from tilers.readers.direct import DirectReader

    return DirectReader(_local(path))


def _openslide(path: Location) -> Reader:
    from tilers.readers.openslide import OpenSlideReader

    return OpenSlideReader(_local(path))


def _tiffslide(path: Location) -> Reader:
    from tilers.readers.tiffslide import TiffSlideReader

    return TiffSlideReader(path)


def _picture(path: Location) -> Reader:
    from tilers.readers.picture import PictureReader

    return PictureReader(_local(path))


READERS: dict[str, Callable[[Location], Reader]] = {
    "direct": _direct,
    "openslide": _openslide,
    "tiffslide": _tiffslide,
    "picture": _picture,
}
"""In the order `auto` tries them."""


class NotLocal(Exception):
    """Another reader's: a URL."""


def _local(path: Location) -> Path:
    if not isinstance(path, Path):
        raise NotLocal("reads files of this machine only")
    return path


@dataclass(frozen=True)
class Opened:
    """An open slide, and why readers before it refused."""

    reader: Reader
    refused: dict[str, str]


def open_slide(path: Location, requested: str = "auto") -> Opened:
    """Open `path` with the requested reader, or the first that can.

    Raises:
        SlideError: nobody can, with each reader's reason.
    """
    if path.suffix.lower() in UNSUPPORTED:
        raise SlideError(path, f"no reader for this format ({UNSUPPORTED[path.suffix.lower()]})")
    if path.is_file() and path.stat().st_size == 0:
        raise SlideError(path, "is empty (0 bytes)", "copy it again from the scanner")
    if isinstance(path, Path) and path.is_dir() and (series := count_series(path)) != 1:
        if not series:
            raise SlideError(path, "is a folder without slides", "copy its slides there, or remove it")
        raise SlideError(path, f"holds {series} DICOM series", "name a file of the series that is meant")
    refused: dict[str, str] = {}
    for name in READERS if requested == "auto" else (requested,):
        try:
            return Opened(READERS[name](path), refused)
        except Exception as error:  # readers raise whatever their libraries do; each reason is kept
            # libraries quote the path; folders above the slide are nobody's business in a report
            words = str(error).replace(str(path.parent) + "/", "")
            refused[name] = f"{type(error).__name__}: {words}"[:300]
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
    raise SlideError(
        path,
        f"cannot be opened as a slide ({reasons})",
        "check that the file is complete; export it again, or convert it to pyramidal TIFF or DICOM",
    )
