"""What each reader sees in a slide, which resolution source wins, and what would be tiled."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dask.system import CPU_COUNT

from tilers.pictures import geojson, preview
from tilers.readers import READERS, open_slide
from tilers.resolution import resolve
from tilers.survey import survey
from tilers.tile import tile
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import PipelineError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


def inspect(slide: Slide, settings: TileSettings) -> Iterator[str]:
    """Lines about one slide. Label and macro images are not opened; other properties are not shown."""
    path = slide.path
    yield f"{path}"
    for name in READERS:
        try:
            reader = open_slide(path, name).reader
        except PipelineError as error:
            yield f"  {name}: {error.cause}"
            continue
        with closing(reader):
            sizes = ", ".join(f"{d:.6g}" for d in reader.downsamples[: len(reader.level_sizes)])
            yield f"  {name}: {reader.size[0]}×{reader.size[1]}, levels {sizes}, vendor {reader.vendor or 'unknown'}"
            stated = {
                "µm/px (vendor)": reader.mpp_xy and f"{reader.mpp_xy[0]:g} × {reader.mpp_xy[1]:g}",
                "µm/px (TIFF tags)": reader.tiff_mpp and f"{reader.tiff_mpp:g}",
                "objective": reader.objective_power and f"{reader.objective_power:g}X",
            }
            yield "    states " + (", ".join(f"{k} {v}" for k, v in stated.items() if v) or "no resolution")
            try:
                resolution = resolve(path, reader, None, settings)
                yield f"    resolution {resolution.mpp:g} µm/px from {resolution.source}"
            except PipelineError as error:
                yield f"    {error.reason}"
    yield from _would_be(slide, settings)


def show(slide: Slide, settings: TileSettings, picture: Path | None, shapes: Path | None) -> None:
    """Tile a slide and write what came of it: a PNG, and GeoJSON for QuPath.

    Raises:
        SlideError: it cannot be tiled.
    """
    with tempfile.TemporaryDirectory(prefix="wsi-inspect-") as folder:
        final = Path(folder) / "patches.zarr"
        tile(slide, settings, final, threads=CPU_COUNT)
        store = PatchStore(final)
        if picture:
            preview(store).save(picture, "PNG")
        if shapes:
            shapes.write_text(json.dumps(geojson(store)) + "\n")


def _would_be(slide: Slide, settings: TileSettings) -> Iterator[str]:
    try:
        found = survey(slide, settings)
    except PipelineError as error:
        yield f"  would fail: {error.reason}"
        return
    with closing(found.reader):
        for warning in found.warnings:
            yield f"  warning: {warning}"
        read = found.reader.downsamples[found.level]
        area = float(found.mask.sum()) * found.overview.mpp**2 / 1e6
        yield (
            f"  would be tiled by {found.reader.name} at a downsample of {read:.6g}: {len(found.candidates)} of "
            f"{found.grid.columns * found.grid.rows} patches of {settings.patch_size} px "
            f"at {found.patch_mpp:.4g} µm/px hold tissue, {area:.2f} mm²"
        )
