"""tiffslide: the TIFF family, OME-TIFF among it, through tifffile and zarr."""

from __future__ import annotations

import math

import numpy as np
import tifffile
import tiffslide
from numpy.typing import NDArray

from tilers.geometry import Box
from tilers.readers.base import PHANTOM_MARKER, UndecodableRegion, check_tile, number, within
from tilers.readers.ome import ome_mpp
from wsi_pipeline.cases.location import Location
from wsi_pipeline.errors import SlideError


class TiffSlideReader:
    """A slide through tiffslide, which also reads URLs through fsspec.

    Raises:
        tiffslide.TiffFileError: it cannot be opened; other errors of tifffile pass through.
        SlideError: it would show wrong colours, or glass where tissue may be.
    """

    name = "tiffslide"

    def __init__(self, path: Location) -> None:
        self._path = path
        self._slide = tiffslide.TiffSlide(str(path))
        for series in self._slide.ts_tifffile.series:
            for level in series.levels:
                level.keyframe.nodata = 255  # a tile that is not there is glass; tifffile makes it black
                _check_colours(level.keyframe)
        for level in range(self._slide.level_count):
            height, width = self._slide.zarr_group[str(level)].chunks[:2]
            check_tile(int(width), int(height))
        facts = self._slide.properties
        self.size = (int(self._slide.dimensions[0]), int(self._slide.dimensions[1]))
        self.level_sizes = tuple((int(w), int(h)) for w, h in self._slide.level_dimensions)
        self.downsamples = tuple(float(d) for d in self._slide.level_downsamples)
        self.vendor = str(facts.get("tiffslide.vendor") or "") or None
        if self.vendor == "aperio":
            self._check_absent()
        self.objective_power = number(facts.get("tiffslide.objective-power"))
        mpp_x, mpp_y = number(facts.get("tiffslide.mpp-x")), number(facts.get("tiffslide.mpp-y"))
        # without a vendor's header the figures come from the resolution tags, which are often a dpi
        low_trust = self.vendor in (None, "generic-tiff")
        stated = (mpp_x, mpp_y) if mpp_x and mpp_y and not low_trust else None
        self.mpp_xy = stated or ome_mpp(facts.get("tiff.ImageDescription"))
        self.tiff_mpp = mpp_x if low_trust else None
        self.bounds = Box(0, 0, *self.size)
        self.is_phantom = PHANTOM_MARKER in str(facts.get("tiff.ImageDescription") or "")

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `Reader.read`; what lies outside the level is white, not tiffslide's black."""

        def inside(x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
            # tiffslide divides by the mean of both downsamples and rounds down; this origin is the first to land there
            origin = tuple(math.ceil(v * self.downsamples[level]) for v in (x, y))
            try:
                region = self._slide.read_region(origin, level, (width, height), as_array=True)
            except MemoryError:
                raise  # the machine's trouble, not the slide's
            except Exception as error:  # codecs raise their own types, some of them plain RuntimeError
                if isinstance(error, OSError) or type(error).__module__.startswith("aiohttp"):
                    cause = f"cannot be read any more ({type(error).__name__})"
                    raise SlideError(self._path, cause, "check disk and network, and run again") from None
                raise UndecodableRegion(f"{type(error).__name__}: {error}") from None
            if region.ndim != 3 or region.shape[2] < 3 or region.dtype != np.uint8:
                raise UndecodableRegion(f"pixels are {region.dtype} {region.shape}, not 8-bit RGB")
            return np.asarray(region[..., :3])

        return within(self.level_sizes[level], (x, y, width, height), inside)

    def _check_absent(self) -> None:
        """Absent tiles of one of several levels in Aperio's files are an encoder's bug, not glass, says OpenSlide."""
        for series in self._slide.ts_tifffile.series:
            if len(series.levels) > 1 and not all(all(level.keyframe.databytecounts) for level in series.levels):
                reason = "lacks tiles of one of its levels, which tiffslide would show as glass"
                raise SlideError(self._slide.ts_tifffile.filename, reason, "copy it here and read it with OpenSlide")

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


def _check_colours(page: tifffile.TiffPage) -> None:
    """Refuse what tifffile decodes to wrong colours without a word: JPEG 2000 components that are YCbCr (measured)."""
    if page.compression == tifffile.COMPRESSION.APERIO_JP2000_YCBC:
        reason = "holds JPEG 2000 in YCbCr, which tiffslide takes for RGB"
        raise SlideError(page.parent.filename, reason, "copy it here and read it with another --reader")
