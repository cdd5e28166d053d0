"""Real slides of several vendors, where they are at hand."""

import re
from pathlib import Path

import numpy as np
import pytest

import wsi_pipeline as wp
from tests.conftest import as_slide
from tilers.geometry import make_grid, window
from tilers.patch import patch_level, read_patch
from tilers.readers import open_slide
from tilers.resample import area_average
from tilers.tile import tile
from workflows.run import exit_code, run
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings, gather
from wsi_pipeline.store.patches import PatchStore

pytestmark = pytest.mark.shared

EXPECTED = {
    "svs/CMU-1-Small-Region.svs": ("done", None),
    "svs/TCGA-CR-7395-01A-01-TS1.svs": ("failed", "no resolution is stated.*--mpp"),
    "ndpi/test3-TRITC-2-560.ndpi": ("no_tissue", "fluorescence"),
    "tiff/CMU-0-small.tiff": ("failed", "3.19"),
    "tiff/packer_example.tif": ("done", None),
    "tiff/instanseg_HE_example.ome.tif": ("done", None),
    "dicom/CMU-1-Small-Region": ("done", None),
    "dicom/multiframe_camelyon_challenge_image.dcm": ("failed", "coarser than the target"),
    "edge/broken.svs": ("failed", "openslide: .*tiffslide: "),
    "edge/unreadable.svs": ("failed", "do not decode"),
    "edge/unopenable.tiff": ("failed", "352.8"),
}


def tiled(path: Path, folder: Path, mpp: float | None = None, **settings: object) -> PatchStore:
    final = folder / f"{path.name}-{len(list(folder.iterdir()))}.zarr"
    tile(as_slide(path, mpp), TileSettings(**settings), final)
    return PatchStore(final)


def test_a_night_over_all_of_them(real_slides: Path, tmp_path: Path) -> None:
    rows = "".join(f"{Path(name).name.replace('.', '_')}-{i},{name}\n" for i, name in enumerate(EXPECTED))
    (tmp_path / "m.csv").write_text("case_id,slide\n" + rows)
    cases = wp.find_cases(real_slides, manifest=tmp_path / "m.csv")
    outcomes = run(cases, tmp_path / "out", gather({"model": "phantom"}))
    assert exit_code(outcomes) == 3
    for outcome, (name, (status, words)) in zip(outcomes, EXPECTED.items(), strict=True):
        (slide,) = outcome.slides
        assert slide.status == status, name
        if words:
            assert re.search(words, str(slide.reason)), (name, slide.reason)
        if outcome.report:
            report = wp.load_report(tmp_path / "out/cases" / outcome.case / outcome.report)
            assert report.parts[0].diagnosis == ()
            assert "does not write on real ones" in str(report.parts[0].no_diagnosis)
        else:
            assert not list((tmp_path / "out/cases" / outcome.case).glob("slides/*/tokens*"))


def test_the_dicom_slide_has_the_patches_of_the_svs(real_slides: Path, tmp_path: Path) -> None:
    a = tiled(real_slides / "svs/CMU-1-Small-Region.svs", tmp_path, codec="zstd")
    b = tiled(real_slides / "dicom/CMU-1-Small-Region", tmp_path, codec="zstd")
    assert a.coords.tolist() == b.coords.tolist()
    for i in range(len(a)):
        # the DICOM file says it was JPEG-compressed twice, so its pixels are close to the SVS's, not equal
        assert np.abs(a.patches[i].astype(int) - b.patches[i]).mean() < 4


def test_tcga_works_with_a_resolution_given(real_slides: Path, tmp_path: Path) -> None:
    store = tiled(real_slides / "svs/TCGA-CR-7395-01A-01-TS1.svs", tmp_path, mpp=0.5)
    assert len(store) >= 4
    assert store.facts.mpp_source == "manifest"


def test_tcga_jpeg2000_is_close_in_both_readers(real_slides: Path, tmp_path: Path) -> None:
    path = real_slides / "svs/TCGA-CR-7395-01A-01-TS1.svs"
    stores = [tiled(path, tmp_path, mpp=0.5, reader=r, codec="zstd") for r in ("openslide", "tiffslide")]
    for i in range(len(stores[0])):
        # level 1 has a downsample of 2.0005: OpenSlide interpolates between its pixels, tiffslide does not
        assert np.abs(stores[0].patches[i].astype(int) - stores[1].patches[i]).mean() < 6


@pytest.mark.parametrize(
    ("name", "other", "allowed"),
    [
        ("svs/CMU-1-Small-Region.svs", "openslide", 0),
        ("svs/CMU-1-Small-Region.svs", "tiffslide", 0),
        ("svs/TCGA-CR-7395-01A-01-TS1.svs", "openslide", 1),  # JPEG 2000
        ("svs/TCGA-CR-7395-01A-01-TS1.svs", "tiffslide", 1),
        ("tiff/packer_example.tif", "openslide", 0),
        ("tiff/packer_example.tif", "tiffslide", 0),
        ("tiff/CMU-0-small.tiff", "openslide", 0),
        ("tiff/instanseg_HE_example.ome.tif", "tiffslide", 0),
    ],
)
def test_the_direct_reader_has_the_pixels_of_the_others(real_slides: Path, name: str, other: str, allowed: int) -> None:
    path = real_slides / name
    opened = open_slide(path)
    assert opened.reader.name == "direct", opened.refused
    reference = open_slide(path, other).reader
    for level, (width, height) in enumerate(reference.level_sizes):
        if other == "openslide" and not reference.downsamples[level].is_integer():
            continue  # OpenSlide interpolates between its pixels
        for x in range(-50, width, 700):
            for y in range(-50, height, 500):
                area = (level, x, y, 333, 257)
                assert np.abs(opened.reader.read(*area).astype(int) - reference.read(*area)).max() <= allowed, area


@pytest.mark.parametrize("mpp", [0.499, 0.5, 0.25, 0.2527, 0.5022])
def test_real_patches_are_close_to_the_exact_average(real_slides: Path, mpp: float) -> None:
    """Whatever resolution the slide is said to have: each is read through other scales of the decoder."""
    reader = open_slide(real_slides / "svs/CMU-1-Small-Region.svs").reader
    grid = make_grid(reader.bounds, 256, 1 / mpp)
    whole = [(x, y) for x, y in grid.origins if x + grid.step <= reader.size[0] and y + grid.step <= reader.size[1]]
    assert len(whole) >= 4
    for x, y in whole:
        area = window(x, y, (grid.step, grid.step), 1.0)
        exact = area_average(reader.read(0, area.x, area.y, area.width, area.height), area.crop, (256, 256))
        got, _ = read_patch(reader, grid, patch_level(reader, 1 / mpp), (int(x), int(y)), 256)
        noise = ((got.astype(float) - exact) ** 2).mean()
        assert noise == 0 or 10 * np.log10(255**2 / noise) >= 40, (x, y, noise)


def test_the_overview_scale_slide_needs_to_be_told(real_slides: Path, tmp_path: Path) -> None:
    path = real_slides / "tiff/CMU-0-small.tiff"
    with pytest.raises(SlideError, match="coarser than the target"):
        tiled(path, tmp_path, mpp=3.195)
    assert len(tiled(path, tmp_path, mpp=3.195, allow_upsampling=True)) > 0


def test_label_and_macro_are_never_stored(real_slides: Path, tmp_path: Path) -> None:
    store = tiled(real_slides / "svs/CMU-1-Small-Region.svs", tmp_path)
    assert store.facts.level0_size == (2220, 2967)
    assert abs(store.thumbnail.shape[1] / store.thumbnail.shape[0] - 2220 / 2967) < 0.02
    assert set(store._root.array_keys()) == {"patches", "coords", "tissue", "quality", "thumbnail", "mask"}


def test_a_random_medgemma_writes_on_a_real_slide(real_slides: Path, gemma: Path, tmp_path: Path) -> None:
    case = wp.find_cases(real_slides / "svs/CMU-1-Small-Region.svs")
    (outcome,) = run(case, tmp_path, gather({"model": str(gemma), "max_new_tokens": 30}))
    assert outcome.status == "done"
    (part,) = wp.load_report(tmp_path / "cases" / outcome.case / str(outcome.report)).parts
    assert part.plan
    assert part.completeness.patches_read == part.completeness.patches_found == 4
