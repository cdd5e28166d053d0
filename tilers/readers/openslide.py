"""OpenSlide: vendor formats and DICOM."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from tilers.geometry import Box
from tilers.readers.base import PHANTOM_MARKER, WAITS_S, UndecodableRegion, check_tile, number, on_white
from tilers.readers.dicom_colour import check_colours
from tilers.readers.ome import ome_mpp
from wsi_pipeline.cases.files import files_of
from wsi_pipeline.errors import SlideError

_STALLED = tuple(os.strerror(code) for code in (errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN))
"""What OpenSlide says of a share that is gone or slow, which is no damage of the slide; it has no codes."""


class OpenSlideReader:
    """A slide through OpenSlide.

    Raises:
        openslide.OpenSlideError: OpenSlide cannot open it.
        ContradictedColours: it is DICOM, and its colours would come out wrong.
    """

    name = "openslide"

    def __init__(self, path: Path) -> None:
        files = files_of(path)
        self._path, self._file = path, files[0] if path.is_dir() else path
        if openslide.OpenSlide.detect_format(self._file) is None:
            raise openslide.OpenSlideUnsupportedFormatError("not a format OpenSlide knows")
        self._slide = openslide.OpenSlide(self._file)
        self._lock = threading.Lock()
        facts = self._slide.properties
        if facts.get(openslide.PROPERTY_NAME_VENDOR) == "dicom":
            for file in files:
                check_colours(file)
        for level in range(self._slide.level_count):
            edges = (facts.get(f"openslide.level[{level}].tile-{edge}") for edge in ("width", "height"))
            check_tile(*(int(edge or 0) for edge in edges))
        self.size = self._slide.dimensions
        self.level_sizes = tuple(self._slide.level_dimensions)
        self.downsamples = tuple(float(d) for d in self._slide.level_downsamples)
        self.vendor = facts.get(openslide.PROPERTY_NAME_VENDOR)
        self.objective_power = number(facts.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
        mpp_x = number(facts.get(openslide.PROPERTY_NAME_MPP_X))
        mpp_y = number(facts.get(openslide.PROPERTY_NAME_MPP_Y))
        # for generic TIFF these fields come from the resolution tags, which are often a scanner's dpi
        low_trust = self.vendor == "generic-tiff"
        stated = (mpp_x, mpp_y) if mpp_x and mpp_y and not low_trust else None
        self.mpp_xy = stated or ome_mpp(facts.get("tiff.ImageDescription"))
        self.tiff_mpp = mpp_x if low_trust else None
        self.bounds = self._bounds()
        self.is_phantom = PHANTOM_MARKER in facts.get("tiff.ImageDescription", "")

    def _bounds(self) -> Box:
        facts = self._slide.properties
        names = ("bounds-x", "bounds-y", "bounds-width", "bounds-height")
        values = [facts.get(f"openslide.{name}") for name in names]
        if None in values:
            return Box(0, 0, *self.size)
        return Box(*(int(str(v)) for v in values))

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        downsample = self.downsamples[level]
        # OpenSlide interpolates where the origin is no whole level pixel; the nearest one shifts least
        origin = (round(x * downsample), round(y * downsample))
        with self._lock:
            region = self._region(origin, level, (width, height))
        return on_white(region)

    def _region(self, origin: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        stalled = ""
        for wait in (0.0, *WAITS_S):
            time.sleep(wait)
            try:
                return np.asarray(self._slide.read_region(origin, level, size))
            except openslide.OpenSlideError as error:
                stalled = next((words for words in _STALLED if words in str(error)), "")
                reopened = self._reopen()
                if not stalled and reopened:
                    raise UndecodableRegion(str(error)) from None
        cause = f"cannot be read any more ({stalled})" if stalled else "cannot be opened any more"
        raise SlideError(self._path, cause, "check the disk or share, and run again")

    def _reopen(self) -> bool:
        """A handle is unusable after an error; a fresh one, where there is one, serves other regions."""
        try:
            fresh = openslide.OpenSlide(self._file)
        except (openslide.OpenSlideError, OSError):
            return False
        self._slide.close()
        self._slide = fresh
        return True

    def close(self) -> None:
        """Release the file."""
        self._slide.close()
