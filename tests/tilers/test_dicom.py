"""DICOM slides made here: levels, concatenations, and colours that the header gets wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import tissue_image
from tests.tilers.dicoms import write_dicom
from tests.tilers.tiffs import Pixels
from tilers.readers import open_slide
from tilers.tile import tile
from wsi_pipeline.cases import Slide, discover
from wsi_pipeline.cases.files import slides_in
from wsi_pipeline.errors import SlideError, UsageError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


@pytest.fixture
def image() -> Pixels:
    blotches = np.random.default_rng(0).integers(60, 255, (14, 20, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blotches).resize((1000, 700), Image.Resampling.BICUBIC))


def test_levels_in_instances_of_their_own_are_one_slide(tmp_path: Path, image: Pixels) -> None:
    slide = open_slide(write_dicom(tmp_path / "slide", image, factors=(1, 4), mpp=0.2527)).reader
    assert slide.vendor == "dicom"
    assert slide.level_sizes == ((1000, 700), (250, 175))
    assert slide.mpp_xy == pytest.approx((0.2527, 0.2527))
    assert _difference(slide.read(0, 0, 0, 1000, 700), image) < 3
    assert _difference(slide.read(1, 0, 0, 250, 175), np.asarray(Image.fromarray(image).reduce(4))) < 3


def test_a_concatenation_is_one_slide_and_reads_like_one_instance(tmp_path: Path, image: Pixels) -> None:
    whole = open_slide(write_dicom(tmp_path / "whole", image)).reader
    concatenation = write_dicom(tmp_path / "case" / "slide", image, concatenated=3)
    assert slides_in(concatenation) == [concatenation]
    parts = open_slide(concatenation).reader
    assert parts.size == whole.size
    assert np.array_equal(parts.read(0, 0, 0, 1000, 700), whole.read(0, 0, 0, 1000, 700))


def test_levels_in_several_files_each_are_tiled_as_one_slide(tmp_path: Path) -> None:
    stained = tissue_image(1400, 2000)
    slide = write_dicom(tmp_path / "slide", stained, factors=(1, 4), mpp=0.25, concatenated=2)
    assert len(list(slide.iterdir())) == 4
    tile(Slide("s", slide), TileSettings(patch_size=128, codec="zstd"), tmp_path / "s.zarr")
    store = PatchStore(tmp_path / "s.zarr")
    assert (store.facts.reader, store.facts.levels, store.facts.mpp) == ("openslide", 2, 0.25)
    assert len(store) > 4
    means = np.asarray(Image.fromarray(stained).reduce(4))
    for patch, (x, y) in zip(store.patches[:], store.coords // 4, strict=True):
        inside = means[y : y + 128, x : x + 128]
        assert _difference(patch[: inside.shape[0], : inside.shape[1]], inside) < 4


def test_a_folder_of_two_series_is_two_slides_and_no_single_one(tmp_path: Path, image: Pixels) -> None:
    both = write_dicom(tmp_path / "a", image)
    for file in write_dicom(tmp_path / "b", image).iterdir():
        file.rename(both / f"b-{file.name}")
    assert len(slides_in(both)) == 2
    with pytest.raises(SlideError, match=r"holds 2 DICOM series\. Fix: name a file"):
        open_slide(both)
    (tmp_path / "none").mkdir()
    with pytest.raises(SlideError, match="is a folder without slides"):
        open_slide(tmp_path / "none")


def test_a_series_in_a_case_folder_does_not_hide_parts_below_it(tmp_path: Path, image: Pixels) -> None:
    series = write_dicom(tmp_path / "slides/case", image, factors=(1, 2))
    (series / "B").mkdir()
    (series / "B/x.svs").touch()
    (case,) = discover(tmp_path / "slides")
    assert {part.name: [s.path.name for s in part.slides] for part in case.parts} == {"B": ["x.svs"], None: ["case"]}
    with pytest.raises(UsageError, match="1 of 2 slides lie directly in it"):
        discover(series)


def test_a_header_that_says_rgb_over_ycbcr_frames_is_refused(tmp_path: Path, image: Pixels) -> None:
    with pytest.raises(SlideError, match=r"01-0\.dcm says its colours are RGB, its JPEG frames are YCbCr; set"):
        open_slide(write_dicom(tmp_path / "slide", image, photometric="RGB"))


def test_frames_that_are_rgb_as_the_header_says_are_read(tmp_path: Path, image: Pixels) -> None:
    slide = open_slide(write_dicom(tmp_path / "slide", image, photometric="RGB", coded_rgb=True)).reader
    assert _difference(slide.read(0, 0, 0, 1000, 700), image) < 3


def _difference(found: Pixels, wanted: Pixels) -> float:
    return float(np.abs(found.astype(int) - wanted).mean())
