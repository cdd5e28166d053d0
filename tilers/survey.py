"""What is known of a slide before any patch is read: its resolution, its tissue, and where patches will be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilers.geometry import Grid, is_upsampling, make_grid
from tilers.grid import fragments, fullest_of_rest, tissue_fractions
from tilers.outside_mask import read_mask
from tilers.overview import Overview, overview_level, read_overview
from tilers.patch import patch_downsample, patch_level
from tilers.readers import Opened, Reader, open_slide
from tilers.readers.base import Keeping
from tilers.resolution import Resolution, resolve
from tilers.tissue import find_tissue, is_dark_field
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import MOST_LEFT


@dataclass(frozen=True)
class Survey:
    """What is known of an open slide before any patch is read: what `inspect` and `--dry-run` show.

    Attributes:
        opened: reader, and who refused before it.
        resolution: of level 0.
        level: that patches are read from.
        downsample: level-0 pixels per pixel of a patch.
        overview, mask: the whole scan, and where on it tissue is.
        grid: of patches.
        tissue: (n,) share of every patch of the grid.
        candidates: places of the grid that are read.
        warnings: for the report.
    """

    opened: Opened
    resolution: Resolution
    level: int
    downsample: float
    overview: Overview
    mask: NDArray[np.bool_]
    grid: Grid
    tissue: NDArray[np.float64]
    candidates: NDArray[np.intp]
    warnings: tuple[str, ...]

    def mm2(self, mask: NDArray[np.bool_]) -> float:
        """Area of a mask on the overview."""
        sx, sy = self.overview.scale
        return float(mask.sum() * sx * sy * self.resolution.mpp**2 / 1e6)

    @property
    def patch_mpp(self) -> float:
        """µm per pixel of a patch."""
        return self.downsample * self.resolution.mpp

    @property
    def comparable(self) -> bool:
        """Whether patches can be held against the overview; of one level it comes from the same bytes, and agrees."""
        return len(self.reader.level_sizes) > 1

    @property
    def reader(self) -> Reader:
        """The open reader."""
        return self.opened.reader


def survey(slide: Slide, settings: TileSettings, threads: int = 1, scratch: Path | None = None) -> Survey:
    """Open a slide, settle its resolution, find tissue and the patches to read. The caller closes the reader.

    Args:
        slide, settings: as for `tile`.
        threads: that decode and resample.
        scratch: folder where tiles decoded for the overview may wait for their patches; None when none are read.

    Raises:
        SlideError: not a slide, no resolution, too coarse, or nothing decodes.
    """
    opened = open_slide(slide.path, settings.reader)
    try:
        return _survey(slide, opened, settings, threads, scratch)
    except BaseException:
        opened.reader.close()
        raise


def _survey(slide: Slide, opened: Opened, settings: TileSettings, threads: int, scratch: Path | None) -> Survey:
    reader = opened.reader
    resolution = resolve(slide.path, reader, slide.mpp, settings)
    upsampling = is_upsampling(resolution.mpp, settings.mpp)
    if upsampling and not settings.allow_upsampling:
        raise SlideError(
            slide.path,
            f"has {resolution.mpp:g} µm/px ({resolution.source}), coarser than the target {settings.mpp:g}",
            "scan it at higher power, correct its mpp, or accept invented pixels with --allow-upsampling",
        )
    downsample = patch_downsample(reader, settings.mpp / resolution.mpp, settings.mpp_tolerance)
    level = patch_level(reader, downsample)
    if scratch and isinstance(reader, Keeping) and level == overview_level(reader, resolution.mpp):
        reader.keep(level, scratch)
    overview = read_overview(reader, resolution.mpp, threads)
    if overview.undecodable.all():
        raise SlideError(slide.path, "opens, but its pixels do not decode", "copy or export the file again")
    warnings = list(resolution.warnings)
    if upsampling:
        warnings.append(f"{resolution.mpp:g} µm/px, coarser than {settings.mpp:g}: pixels between are invented")
    if slide.mask:
        mask = read_mask(slide.mask, reader, overview) & ~overview.undecodable
    elif is_dark_field(overview.image):
        warnings.append("dark background: fluorescence, not a stained bright-field section; not tiled")
        mask = np.zeros(overview.undecodable.shape, bool)
    else:
        mask = find_tissue(overview.image, overview.mpp) & ~overview.undecodable
    grid = make_grid(reader.bounds, settings.patch_size, downsample)
    tissue = tissue_fractions(mask, grid)
    unknown = tissue_fractions(overview.undecodable, grid)
    # where the overview does not decode, tissue is possible: such patches are read, or counted as unreadable
    enough = np.flatnonzero(tissue + unknown >= max(settings.min_tissue, 1e-6))
    candidates = np.union1d(enough, fragments(mask, grid, enough))
    if settings.min_tissue <= TileSettings().min_tissue:
        candidates = np.union1d(candidates, fullest_of_rest(tissue, candidates, MOST_LEFT))
    return Survey(opened, resolution, level, downsample, overview, mask, grid, tissue, candidates, tuple(warnings))
