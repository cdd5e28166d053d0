from pathlib import Path

import numpy as np
import pytest

from tests.conftest import MakeSlide, as_slide, tissue_image
from tilers.pictures import geojson, preview
from tilers.tile import tile
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


@pytest.fixture
def store(make_slide: MakeSlide, tmp_path: Path) -> PatchStore:
    image = np.full((2000, 2600, 3), 243, np.uint8)
    image[300:1700, 300:1700] = tissue_image(3600, 3600)[1100:2500, 1100:2500]
    image[800:1200, 800:1200] = 243
    path = make_slide(image=image, mpp=1.0, power=10, factors=())
    tile(as_slide(path), TileSettings(patch_size=256), tmp_path / "s.zarr")
    return PatchStore(tmp_path / "s.zarr")


def area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return abs(float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())) / 2


def test_geojson_outlines_tissue_with_its_hole_in_level0_pixels(store: PatchStore) -> None:
    tissue = [f for f in geojson(store)["features"] if f["properties"]["objectType"] == "annotation"]
    assert len(tissue) == 1
    outer, hole = tissue[0]["geometry"]["coordinates"]
    for ring, (low, high) in ((outer, (300, 1700)), (hole, (800, 1200))):
        assert np.min(ring, axis=0) == pytest.approx([low, low], abs=16)
        assert np.max(ring, axis=0) == pytest.approx([high, high], abs=16)
        assert ring[0] == ring[-1]
    assert (area(outer) - area(hole)) / 1e6 == pytest.approx(store.facts.tissue_mm2, rel=0.02)


def test_geojson_holds_every_patch_with_its_measurements(store: PatchStore) -> None:
    patches = [f for f in geojson(store)["features"] if f["properties"]["objectType"] == "detection"]
    assert len(patches) == len(store) > 20
    for index, feature in enumerate(patches):
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == store.coords[index].tolist()
        assert area(ring) == 256**2
        measured = feature["properties"]["measurements"]
        assert measured["patch"] == index
        assert measured["focus"] == pytest.approx(store.quality["focus"][index], abs=1e-4)


def test_the_preview_frames_patches_and_outlines_tissue(store: PatchStore) -> None:
    picture = np.asarray(preview(store))
    assert max(picture.shape[:2]) == 1600
    for colour in ((20, 110, 60), (40, 60, 90)):
        assert (picture == colour).all(2).sum() > 1000
