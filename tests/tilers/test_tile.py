from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import MakeSlide, as_slide, tissue_image
from tilers.grid import fullest_of_rest
from tilers.readers import open_slide
from tilers.tile import patches_fingerprint, tile
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


def tiled(path: Path, mpp: float | None = None, **settings: object) -> PatchStore:
    final = path.with_suffix(".zarr")
    tile(as_slide(path, mpp), TileSettings(**settings), final)
    return PatchStore(final)


def expected_patch(image: np.ndarray, x: int, y: int, factor: int, size: int) -> np.ndarray:
    padded = np.full((y + size * factor, x + size * factor, 3), 255, np.uint8)
    cut = image[: padded.shape[0], : padded.shape[1]]
    padded[: cut.shape[0], : cut.shape[1]] = cut
    region = padded[y:, x:].astype(float)
    return region.reshape(size, factor, size, factor, 3).mean((1, 3))


def test_patches_are_768_at_1_micron_in_reading_order(make_slide: MakeSlide) -> None:
    image = tissue_image(2400, 3600)
    store = tiled(make_slide(image=image, mpp=0.5, factors=()), codec="zstd")
    assert store.patches.shape[1:] == (768, 768, 3)
    assert store.facts.patch_level0 == 1536
    order = [tuple(xy) for xy in store.coords[:, ::-1]]
    assert order == sorted(order)
    for i, (x, y) in enumerate(store.coords):
        wanted = expected_patch(image, x, y, 2, 768)
        assert np.abs(store.patches[i].astype(float) - wanted).mean() < 4  # the slide itself is JPEG


def test_edge_patches_are_white_beyond_the_scan_and_say_so(make_slide: MakeSlide) -> None:
    store = tiled(make_slide(image=tissue_image(2000, 2000), mpp=1.0, power=10, factors=()))
    corner = store.coords.tolist().index([1536, 768])
    assert (store.patches[corner][:, 464 + 8 :] > 250).all()
    assert store.quality["valid"][corner] == pytest.approx(464 / 768, abs=1e-3)
    assert store.quality["valid"][0] == 1


def test_a_coarser_level_is_used_when_fine_enough(make_slide: MakeSlide) -> None:
    store = tiled(make_slide(mpp=0.25, power=40, factors=(4,)))
    assert (store.facts.levels, store.facts.read_downsample) == (2, 4)
    assert store.facts.patch_level0 == 3072


def test_both_readers_give_the_same_patches(make_slide: MakeSlide) -> None:
    path = make_slide(image=tissue_image(2400, 2400), mpp=0.5022, power=20, factors=(4,), tile=240)
    stores = {}
    for reader in ("openslide", "tiffslide"):
        final = path.with_name(f"{reader}.zarr")
        tile(as_slide(path), TileSettings(reader=reader, codec="zstd"), final)
        stores[reader] = PatchStore(final)
    a, b = stores.values()
    assert a.coords.tolist() == b.coords.tolist()
    for i in range(len(a)):
        assert np.abs(a.patches[i].astype(int) - b.patches[i]).max() <= 1


def test_blank_glass_is_an_outcome_not_an_error(make_slide: MakeSlide) -> None:
    blank = np.random.default_rng(0).integers(238, 246, (1500, 1500, 3), np.uint8)
    store = tiled(make_slide(image=blank))
    assert len(store) == 0
    assert store.thumbnail.size > 0


def test_fluorescence_is_not_taken_for_tissue(make_slide: MakeSlide) -> None:
    dark = np.random.default_rng(0).integers(2, 16, (1500, 1500, 3), np.uint8)
    dark[400:900, 400:900, 0] = 180
    store = tiled(make_slide(image=dark))
    assert len(store) == 0
    assert "fluorescence" in store.facts.warnings[-1]


def test_too_coarse_a_slide_is_refused_unless_told(make_slide: MakeSlide) -> None:
    path = make_slide(image=tissue_image(800, 800), mpp=2.0, power=5, factors=())
    with pytest.raises(SlideError, match=r"2 µm/px \(vendor\), coarser than the target 1"):
        tiled(path)
    store = tiled(path, allow_upsampling=True)
    assert len(store) > 0
    assert store.facts.warnings == ("2 µm/px, coarser than 1: pixels between are invented",)


def test_an_undecodable_tile_is_counted_and_left_out(make_slide: MakeSlide) -> None:
    path = make_slide(image=tissue_image(3072, 3072), mpp=1.0, power=10, factors=())
    whole = len(tiled(path))
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        middle = (page.imagelength // 256 // 2) * (page.imagewidth // 256) + page.imagewidth // 256 // 2
        offset, count = page.dataoffsets[middle], page.databytecounts[middle]
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\x00" * count)
    path = path.rename(path.with_name("cut.svs"))
    store = tiled(path, reader="openslide")
    assert store.facts.patches_unreadable >= 1
    assert len(store) + store.facts.patches_unreadable == whole


@pytest.mark.parametrize("keep", [0, 200, 60_000])
def test_a_truncated_slide_fails_by_name_and_stores_nothing(make_slide: MakeSlide, keep: int) -> None:
    path = make_slide(factors=())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SlideError) as caught:
        tiled(path)
    assert str(path) in str(caught.value)
    assert not list(path.parent.glob("*.zarr*"))


@pytest.mark.parametrize(("name", "advice"), [("a.isyntax", "Philips IMS"), ("a.czi", "bioformats2raw")])
def test_an_unsupported_format_is_named_with_what_to_convert_it_with(tmp_path: Path, name: str, advice: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"vendor data")
    with pytest.raises(SlideError, match=advice):
        open_slide(path)


def test_an_explicit_reader_never_falls_back(tmp_path: Path) -> None:
    path = tmp_path / "plain.ome.tif"
    tifffile.imwrite(path, tissue_image(900, 900), ome=True, photometric="rgb")
    assert open_slide(path).reader.name == "tiffslide"
    with pytest.raises(SlideError, match="openslide: "):
        open_slide(path, "openslide")


def test_the_fingerprint_follows_content_and_settings(make_slide: MakeSlide) -> None:
    path = make_slide()
    first = patches_fingerprint(as_slide(path), TileSettings())
    assert patches_fingerprint(as_slide(path), TileSettings()) == first
    assert patches_fingerprint(as_slide(path), TileSettings(jpeg_quality=91)) != first
    assert patches_fingerprint(as_slide(path, mpp=0.5), TileSettings()) != first
    with path.open("ab") as raw:
        raw.write(b"x")
    assert patches_fingerprint(as_slide(path), TileSettings()) != first


def test_a_small_fragment_on_a_grid_corner_is_not_lost(make_slide: MakeSlide) -> None:
    image = np.full((1536, 1536, 3), 243, np.uint8)
    image[618:918, 618:918] = tissue_image(600, 600)[150:450, 150:450]
    path = make_slide(image=image, mpp=1.0, power=10, factors=())
    store = tiled(path)
    assert len(store) == 4
    assert store.tissue.max() < 0.05
    assert store.facts.tissue_left == 0
    # who asks for fuller patches gets one of each piece, and is told what is left
    fuller = tiled(make_slide("b.svs", image=image, mpp=1.0, power=10, factors=()), min_tissue=0.06)
    assert len(fuller) == 1
    assert fuller.facts.tissue_left > 0.5


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.2))
def test_as_few_patches_are_added_as_leave_little(seed: int, most: float) -> None:
    random = np.random.default_rng(seed)
    tissue = np.where(random.random(60) < 0.5, random.random(60), 0)
    kept = np.flatnonzero(tissue > 0.4)
    added = fullest_of_rest(tissue, kept, most)
    rest = np.setdiff1d(np.arange(60), np.union1d(kept, added))
    assert tissue[rest].sum() <= most * tissue.sum() + 1e-6
    assert not np.intersect1d(kept, added).size
    if len(added):
        assert tissue[added].min() >= tissue[rest].max()
        assert tissue[rest].sum() + tissue[added].min() > most * tissue.sum() - 1e-6


def test_black_padding_is_not_fluorescence(make_slide: MakeSlide) -> None:
    image = np.zeros((2400, 2400, 3), np.uint8)
    image[:1200, :1200] = tissue_image(1200, 1200)
    store = tiled(make_slide(image=image, mpp=1.0, power=10, factors=(), compression=None))
    assert len(store) > 0


def test_jpeg_and_lossless_patches_are_alike(make_slide: MakeSlide) -> None:
    path = make_slide()
    lossy = tiled(path)
    tile(as_slide(path), TileSettings(codec="zstd"), path.with_name("lossless.zarr"))
    lossless = PatchStore(path.with_name("lossless.zarr"))
    error = lossy.patches[0].astype(float) - lossless.patches[0]
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 38
