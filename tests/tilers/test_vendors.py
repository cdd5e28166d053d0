"""Vendor TIFFs that are OpenSlide's, through `auto`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from tests.conftest import tissue_image
from tests.tilers.dicoms import write_dicom
from tests.tilers.vendors import write_leica, write_philips, write_ventana
from tilers.geometry import make_grid, window
from tilers.patch import patch_level, read_patch
from tilers.readers import open_slide
from tilers.readers.base import UndecodableRegion
from tilers.readers.openslide import OpenSlideReader
from tilers.resample import area_average
from tilers.tile import tile
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore

PATCH = 256


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return tissue_image(1240, 1512)


@pytest.mark.parametrize(
    ("name", "write", "vendor", "offset"),
    [
        ("s.tiff", write_philips, "philips", 0),
        ("s.scn", write_leica, "leica", 300),
        ("s.bif", write_ventana, "ventana", 0),
    ],
)
@pytest.mark.parametrize("mpp", [0.5, 0.25])
def test_patches_are_area_averages_of_what_was_scanned(
    tmp_path: Path, image: np.ndarray, name: str, write: Callable[..., Path], vendor: str, offset: int, mpp: float
) -> None:
    path = write(tmp_path / name, image, mpp)
    tile(Slide("s", path), TileSettings(patch_size=PATCH, codec="zstd"), tmp_path / "s.zarr")
    store = PatchStore(tmp_path / "s.zarr")
    facts = store.facts
    assert (facts.reader, facts.vendor, facts.mpp_source, facts.origin) == (
        "openslide",
        vendor,
        "vendor",
        (offset,) * 2,
    )
    assert facts.mpp == pytest.approx(mpp, rel=1e-3)
    assert "direct" in facts.refused_readers
    factor = round(1 / mpp)
    side = PATCH * factor
    checked = 0
    for patch, (x, y) in zip(np.concatenate(list(store.batches(8))), store.coords - offset, strict=True):
        if x + side <= image.shape[1] and y + side <= image.shape[0]:
            seen = image[y : y + side, x : x + side].reshape(PATCH, factor, PATCH, factor, 3).mean((1, 3))
            # the file is JPEG, with colours at half resolution
            assert np.abs(patch - seen).mean() < 3
            checked += 1
    assert checked


def write_png(path: Path, image: np.ndarray, mpp: float) -> Path:
    Image.fromarray(image).save(path)
    return path


WITHOUT_LEVELS = {
    "s.tiff": partial(write_philips, factors=()),
    "s.scn": partial(write_leica, factors=()),
    "s.bif": partial(write_ventana, factors=()),
    "dicom": write_dicom,
    "s.png": write_png,
}


@pytest.mark.parametrize("name", WITHOUT_LEVELS)
@pytest.mark.parametrize("mpp", [0.5, 0.25, 0.2527, 0.5022])
def test_patches_are_close_to_the_exact_average_whichever_reader_auto_takes(
    tmp_path: Path, image: np.ndarray, name: str, mpp: float
) -> None:
    reader = open_slide(WITHOUT_LEVELS[name](tmp_path / name, image, mpp=mpp)).reader
    assert reader.name != "direct"
    grid = make_grid(reader.bounds, PATCH, 1 / mpp)
    left, top = reader.bounds.x, reader.bounds.y
    edge = int(grid.step) + 2
    whole = reader.read(0, left, top, reader.bounds.width + edge, reader.bounds.height + edge)
    for x, y in grid.origins[:: max(1, len(grid.origins) // 6)]:
        area = window(x - left, y - top, (grid.step, grid.step), 1.0)
        wanted = area_average(whole[area.y :, area.x :], area.crop, (PATCH, PATCH)).astype(float)
        got, inside = read_patch(reader, grid, patch_level(reader, 1 / mpp), (int(x), int(y)), PATCH)
        noise = ((got - wanted) ** 2).mean()
        assert noise == 0 or 10 * np.log10(255**2 / noise) >= 40, (x, y, inside)


@pytest.mark.parametrize(("says", "gone"), [("Stale file handle", True), ("JPEG decoding failed", False)])
def test_a_share_that_is_gone_is_no_damage(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, says: str, gone: bool
) -> None:
    reader = OpenSlideReader(write_leica(tmp_path / "s.scn", image, 0.5))
    wanted = reader.read(0, 400, 400, 8, 8)
    read, tries = openslide.OpenSlide.read_region, []

    def fail(slide: openslide.OpenSlide, *place: object) -> object:
        tries.append(slide)
        if len(tries) == 3:
            return read(slide, *place)
        raise openslide.OpenSlideError(f"/a/name/s.scn: {says}")

    monkeypatch.setattr(openslide.OpenSlide, "read_region", fail)
    monkeypatch.setattr("tilers.readers.openslide.WAITS_S", (0.0, 0.0))
    if not gone:
        with pytest.raises(UndecodableRegion):
            reader.read(0, 400, 400, 8, 8)
        assert len(tries) == 1
        return
    assert (reader.read(0, 400, 400, 8, 8) == wanted).all()  # at the third try
    with pytest.raises(SlideError, match=r"cannot be read any more \(Stale file handle\)"):
        reader.read(0, 400, 400, 8, 8)
    (tmp_path / "s.scn").unlink()
    says = "read error"
    with pytest.raises(SlideError, match="cannot be opened any more"):
        reader.read(0, 400, 400, 8, 8)
    reader.close()
