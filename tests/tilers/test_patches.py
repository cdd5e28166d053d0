"""Patches, whichever level and scale they are read from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import MakeSlide, as_slide, tissue_image
from tests.tilers.tiffs import LAYOUTS, detailed_image, write_tiff
from tilers.geometry import Box, make_grid, near_downsample, window
from tilers.patch import patch_downsample, patch_level, read_patch
from tilers.readers import open_slide
from tilers.readers.direct import DirectReader
from tilers.readers.openslide import OpenSlideReader
from tilers.readers.tiffslide import TiffSlideReader
from tilers.resample import area_average, average_of_means
from tilers.tile import tile
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return tissue_image(1237, 1511)


@pytest.mark.parametrize("mpp", [0.2265, 0.2425, 0.25, 0.2527])
@pytest.mark.parametrize("layout", ["ycbcr 4:2:0", "jpeg 2000 rgb"])
def test_patches_from_a_stored_level_are_the_same_by_all_readers(tmp_path: Path, layout: str, mpp: float) -> None:
    path = write_tiff(tmp_path / "s.svs", detailed_image(1236, 1508), layout, factors=(4,), mpp=mpp)
    readers = DirectReader(path), OpenSlideReader(path), TiffSlideReader(path)
    grid = make_grid(readers[0].bounds, 128, 1 / mpp)
    levels = [patch_level(reader, 1 / mpp) for reader in readers]
    assert {reader.downsamples[level] for reader, level in zip(readers, levels, strict=True)} == {4}
    for x, y in grid.origins[[0, 1, -1]]:
        ours, *others = (
            read_patch(reader, grid, level, (int(x), int(y)), 128)[0].astype(int)
            for reader, level in zip(readers, levels, strict=True)
        )
        assert all(np.abs(ours - theirs).max() <= 1 for theirs in others)


def test_a_downsample_of_4_0003_is_read_at_its_own_pixels(tmp_path: Path) -> None:
    """As of a scanner that rounds down: the last columns of the level stand for a little more than four."""
    image = tissue_image(512, 13_334)  # 3333 pixels of 4.0006, and 128 of 4
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 256, factors=(4,), mpp=0.25)
    direct, other = DirectReader(path), TiffSlideReader(path)
    assert direct.downsamples[1] == pytest.approx(4.0003, abs=1e-5)
    for area in ((0, 0, 3333, 128), (3201, 33, 200, 80), (-5, -9, 50, 50)):
        assert (direct.read(1, *area) == other.read(1, *area)).all(), area
    downsample = patch_downsample(direct, 1 / 0.25, 0.02)
    assert downsample == direct.downsamples[1]
    grid = make_grid(direct.bounds, 128, downsample)
    for number, (x, y) in enumerate(grid.origins[:26]):
        pixels = direct.read(1, 128 * number, 0, 128, 128)
        for reader in (direct, other):
            got, _ = read_patch(reader, grid, patch_level(reader, downsample), (int(x), int(y)), 128)
            assert (got == pixels).all(), (reader.name, number)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mpp", [0.5, 0.25, 0.24998, 0.2527, 0.499, 0.5022, 0.35, 0.125])
def test_patches_are_close_to_the_exact_average_of_the_finest_pixels(tmp_path: Path, layout: str, mpp: float) -> None:
    reader = DirectReader(write_tiff(tmp_path / "s.svs", detailed_image(1237, 1511), layout, mpp=mpp))
    grid = make_grid(reader.bounds, 256, 1 / mpp)
    edge = int(grid.step + 2)
    exact = reader.read(0, 0, 0, 1511 + edge, 1237 + edge)
    for x, y in grid.origins:
        area = window(x, y, (grid.step, grid.step), 1.0)
        wanted = area_average(exact[area.y :, area.x :], area.crop, (256, 256))
        got, inside = read_patch(reader, grid, patch_level(reader, 1 / mpp), (int(x), int(y)), 256)
        assert (inside == 1) == (x + grid.step <= 1511 and y + grid.step <= 1237)
        noise = ((got.astype(float) - wanted) ** 2).mean()
        assert noise == 0 or 10 * np.log10(255**2 / noise) >= 40, (x, y, noise)


def test_pixels_of_a_stored_level_are_averaged_as_the_means_they_are(tmp_path: Path, image: np.ndarray) -> None:
    reader = DirectReader(write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", factors=(4,), mpp=0.2527))
    grid, level = make_grid(reader.bounds, 128, 1 / 0.2527), patch_level(reader, 1 / 0.2527)
    assert reader.downsamples[level] == pytest.approx(4, abs=0.01)
    area = window(*grid.origins[1], (grid.step, grid.step), reader.downsamples[level])
    pixels = reader.read(level, area.x, area.y, area.width, area.height)
    got, _ = read_patch(reader, grid, level, (int(grid.origins[1][0]), int(grid.origins[1][1])), 128)
    assert (got == average_of_means(pixels, area.crop, (128, 128))).all()
    assert (got != area_average(pixels, area.crop, (128, 128))).any()


@pytest.mark.parametrize(("mpp", "scale"), [(0.5, 2), (0.25, 4), (0.2527, 2), (0.499, 1), (0.5022, 1), (0.125, 8)])
def test_the_decoder_scales_only_what_averages_well(tmp_path: Path, image: np.ndarray, mpp: float, scale: int) -> None:
    reader = DirectReader(write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", mpp=mpp))
    assert reader.downsamples[patch_level(reader, 1 / mpp)] == scale


stored_levels = st.lists(st.floats(1.1, 40), max_size=4).map(lambda levels: [1.0, *sorted(levels)])


@given(stored_levels, st.floats(0.3, 40), st.floats(0, 0.05))
def test_a_near_downsample_is_a_whole_number_of_stored_pixels(
    stored: list[float], wanted: float, tolerance: float
) -> None:
    found = near_downsample(stored, wanted, tolerance)
    assert abs(found / wanted - 1) <= tolerance + 1e-9
    near = [level * whole for level in stored for whole in (1, 2, 4, 8) if abs(level * whole / wanted - 1) <= tolerance]
    assert (found in near) if near else (found == wanted)


class Tracing:
    """A reader of no pixels that remembers where it was asked for them."""

    name, bounds = "tracing", Box(0, 0, 100_000, 100_000)

    def __init__(self, downsamples: tuple[float, ...], stored: int) -> None:
        self.downsamples, self.level_sizes = downsamples, ((1, 1),) * stored
        self.asked: list[tuple[int, int]] = []

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        self.asked.append((x, y))
        return np.zeros((height, width, 3), np.uint8)


@given(st.integers(0, 500), st.sampled_from([1.0, 1.9985, 4.0, 4.0003, 16.002]), st.sampled_from([1, 2, 4]))
def test_patches_of_whole_pixels_lie_side_by_side_wherever_the_scan_begins(
    start: int, downsample: float, each: int
) -> None:
    reader: Any = Tracing((downsample,), 1)
    grid = make_grid(Box(start, start, 60_000, 60_000), 33, downsample * each)
    for x, y in grid.origins[: grid.columns]:
        read_patch(reader, grid, 0, (int(x), int(y)), 33)
    columns = [x for x, _ in reader.asked]
    assert columns[0] == round(start / downsample)
    assert set(np.diff(columns)) <= {33 * each}


@pytest.mark.parametrize(
    ("downsamples", "stored", "wanted", "level"),
    [
        ((1, 3, 9), 3, 4.0, 0),  # four pixels rather than one and a third
        ((1, 3, 9, 2, 4, 8, 6, 12, 24), 3, 4.0, 4),
        ((1, 4, 16), 3, 8.0, 1),
        ((1, 4, 16, 2, 4, 8, 8, 16, 32), 3, 8.0, 6),  # half of the second level, not an eighth of the first
        ((1, 4, 16, 2, 4, 8, 8, 16, 32), 3, 4.0, 1),
        ((1, 2, 4, 8), 1, 4.4, 1),  # no whole number: two pixels of ½ are means that average well
    ],
)
def test_a_patch_is_read_from_the_coarsest_level_of_whole_pixels(
    downsamples: tuple[float, ...], stored: int, wanted: float, level: int
) -> None:
    reader: Any = Tracing(downsamples, stored)
    assert patch_level(reader, wanted) == level


@pytest.mark.parametrize(
    ("stored", "mpp", "found"),
    [
        ([1], 0.5, 2),
        ([1], 0.5022, 2),
        ([1, 4], 0.5022, 2),
        ([1, 4], 0.2527, 4),
        ([1, 4.0003, 16.002], 0.2527, 4.0003),  # the scanner's 10X rather than four of its pixels
        ([1], 0.4545, 1 / 0.4545),  # 10 % off: exactly 1 µm/px
        ([1, 4], 0.2425, 1 / 0.2425),  # 3 %
        ([1], 1.012, 1),
    ],
)
def test_ten_times_is_what_scanners_call_so(stored: list[float], mpp: float, found: float) -> None:
    assert near_downsample(stored, 1 / mpp, 0.02) == pytest.approx(found)


@pytest.mark.parametrize(("mpp", "factors"), [(0.2527, (4,)), (0.2527, ()), (0.5022, ()), (0.499, ())])
def test_patches_near_the_target_are_pixels_nobody_resampled(
    tmp_path: Path, mpp: float, factors: tuple[int, ...]
) -> None:
    """Those of a stored 10X level as they are, or means of whole pixels; by every reader on the same places."""
    path = write_tiff(tmp_path / "s.svs", tissue_image(1600, 2000), "ycbcr 4:2:0", factors=factors, mpp=mpp)
    each = round(1 / mpp)
    for name in ("direct", "openslide", "tiffslide"):
        store = tiled(path, reader=name)
        assert len(store) > 3
        facts = store.facts
        assert (facts.reader, facts.target_mpp, facts.patch_level0) == (name, 1.0, 128 * each)
        assert facts.patch_mpp == pytest.approx(each * mpp)
        reader = open_slide(path, "openslide").reader
        level, whole = (1, 1) if factors else (0, each)
        for patch, (x, y) in zip(store.patches, store.coords, strict=True):
            pixels = reader.read(level, x * whole // each, y * whole // each, 128 * whole, 128 * whole)
            wanted = area_average(pixels, (0, 0, 128 * whole, 128 * whole), (128, 128)).astype(int)
            # the decoder's own halves and quarters are means before they are rounded
            assert np.abs(patch - wanted).mean() <= (0.6 if name == "direct" and not factors else 0)


def test_without_tolerance_patches_have_exactly_the_target(make_slide: MakeSlide) -> None:
    path = make_slide(image=tissue_image(1600, 2000), mpp=0.5022, factors=())
    facts = tiled(path, mpp_tolerance=0).facts
    assert facts.patch_mpp == pytest.approx(1.0)
    assert facts.patch_level0 == pytest.approx(128 / 0.5022)


def tiled(path: Path, **settings: object) -> PatchStore:
    final = path.with_name("-".join(map(str, settings.values())) + ".zarr")
    tile(as_slide(path), TileSettings(patch_size=128, codec="zstd", **settings), final)
    return PatchStore(final)
