"""The pixels of the direct reader against those of others."""

import os
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import as_slide, tissue_image
from tests.tilers.tiffs import LAYOUTS, SUBSAMPLED_TILES, detailed_image, jpeg_rgb, write_tiff
from tilers.overview import overview_level, read_overview
from tilers.readers import Reader, open_slide
from tilers.readers.direct import DirectReader
from tilers.readers.openslide import OpenSlideReader
from tilers.readers.tiffslide import TiffSlideReader
from tilers.readers.tile_list import NotDirect, list_tilings
from tilers.readers.tiles import JpegTiles
from tilers.tile import tile
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    # odd sizes: the last row and column of tiles are cut
    return tissue_image(1237, 1511)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [240, 256, 512])
def test_pixels_are_those_of_the_other_readers(tmp_path: Path, image: np.ndarray, layout: str, size: int) -> None:
    path = write_tiff(tmp_path / "s.svs", image, layout, size, factors=(4,))
    direct, others = DirectReader(path), [OpenSlideReader(path)]
    if layout != "jpeg 2000 ycbcr":  # which tiffslide refuses
        others.append(TiffSlideReader(path))
    allowed = 1 if "2000" in layout else 0
    for level, (height, width) in enumerate([image.shape[:2], (309, 377)]):
        for area in (
            (0, 0, width, height),
            (-13, -7, 100, 100),
            (width - 91, height - 67, 300, 201),
            (33, 241, 257, 1),
        ):
            ours = direct.read(level, *area).astype(int)
            for other in others:
                if level == 1 and other.name == "openslide":
                    continue  # a downsample of 4.006: OpenSlide interpolates between its pixels
                off = np.abs(ours - other.read(level, *area)).max()
                assert off <= allowed, (other.name, level, area, off)


def silent(tile: np.ndarray) -> bytes:
    """RGB as JPEG that does not say so: no marker of Adobe's, components numbered as those of YCbCr are."""
    stream = bytearray(jpeg_rgb(tile))
    marker = stream.index(b"\xff\xee")
    del stream[marker : marker + 2 + int.from_bytes(stream[marker + 2 : marker + 4], "big")]
    frame, scan = stream.index(b"\xff\xc0"), stream.index(b"\xff\xda")
    for number in range(3):
        stream[frame + 10 + 3 * number] = stream[scan + 5 + 2 * number] = number + 1
    return bytes(stream)


def test_the_tiff_has_the_word_on_colours_in_every_reader(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "rgb", encode=silent)
    for kind in (DirectReader, OpenSlideReader, TiffSlideReader):
        assert np.abs(kind(path).read(0, 0, 0, 1511, 1237).astype(int) - image).mean() < 5, kind


@pytest.mark.parametrize("layout", LAYOUTS)
def test_levels_of_whole_factors_are_those_of_openslide(tmp_path: Path, image: np.ndarray, layout: str) -> None:
    path = write_tiff(tmp_path / "s.svs", image[:1236, :1508], layout, factors=(4,))
    direct, other = DirectReader(path), OpenSlideReader(path)
    assert direct.downsamples[1] == 4
    for area in ((0, 0, 377, 309), (-13, -7, 100, 100), (300, 250, 120, 90)):
        off = np.abs(direct.read(1, *area).astype(int) - other.read(1, *area)).max()
        assert off <= (1 if "2000" in layout else 0), area


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=st.integers(-300, 1600), y=st.integers(-300, 1300), width=st.integers(1, 700), height=st.integers(1, 700))
def test_any_window_is_the_same_window_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, image: np.ndarray, x: int, y: int, width: int, height: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "property.svs"
    if not path.exists():
        write_tiff(path, image, "ycbcr 4:2:0", 240)
    reader = DirectReader(path)
    whole = np.full((2600, 3000, 3), 255, np.uint8)
    whole[400 : 400 + 1237, 400 : 400 + 1511] = reader.read(0, 0, 0, 1511, 1237)
    wanted = whole[400 + y : 400 + y + height, 400 + x : 400 + x + width]
    assert (reader.read(0, x, y, width, height) == wanted).all()


def test_tiffslide_refuses_colours_it_would_get_wrong(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "jpeg 2000 ycbcr")
    with pytest.raises(SlideError, match=r"JPEG 2000 in YCbCr, which tiffslide takes for RGB"):
        open_slide(path, "tiffslide")
    assert open_slide(path).reader.name == "direct"


@pytest.mark.parametrize("subsampling", SUBSAMPLED_TILES)
def test_jpeg_2000_of_subsampled_colours_is_read_as_openslide_reads_it(tmp_path: Path, subsampling: str) -> None:
    # imagecodecs decodes such components to noise, without a word
    stream = SUBSAMPLED_TILES[subsampling]
    image = np.zeros((128, 192, 3), np.uint8)
    path = write_tiff(tmp_path / "s.svs", image, "jpeg 2000 ycbcr", 64, encode=lambda _: stream)
    direct, other = DirectReader(path), OpenSlideReader(path)
    pixels = direct.read(0, 0, 0, 192, 128).astype(int)
    assert np.abs(pixels - other.read(0, 0, 0, 192, 128)).max() <= 1
    assert pixels[..., 1].mean() < pixels[..., 0].mean()  # pink


def test_large_offsets_and_small_ones_give_the_same_pixels(tmp_path: Path, image: np.ndarray) -> None:
    small, big = (DirectReader(write_tiff(tmp_path / f"{b}.svs", image, "ycbcr 4:2:0", big=b)) for b in (False, True))
    assert (tmp_path / "True.svs").read_bytes()[2] == 43
    assert (small.read(0, 0, 0, 1511, 1237) == big.read(0, 0, 0, 1511, 1237)).all()


def test_every_tile_is_decoded_at_most_once(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 240, mpp=0.5)
    reader = DirectReader(path)
    for y in range(0, 1237, 97):
        for x in range(0, 1511, 193):
            reader.read(1, x, y, 193, 97)
    assert reader.decoded[1] == 7 * 6


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("width", [900, 1511])
def test_tiling_decodes_no_tile_of_the_level_it_reads_twice(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, threads: int, width: int
) -> None:
    slide = image[:, :width]
    path, decode, seen = write_tiff(tmp_path / "s.svs", slide, "ycbcr 4:2:0", 240, (4,), 0.5), JpegTiles.decode, []

    def counted(codec: JpegTiles, data: bytes, scale: int) -> np.ndarray:
        seen.append((scale, data))
        return decode(codec, data, scale)

    monkeypatch.setattr(JpegTiles, "decode", counted)
    tile(as_slide(path), TileSettings(patch_size=128, reader="direct"), tmp_path / "p.zarr", threads=threads)
    assert len(PatchStore(tmp_path / "p.zarr")) > 8
    assert max(Counter(piece for piece in seen if piece[0] == 2).values()) == 1
    assert len({piece for piece in seen if piece[0] == 2}) <= 7 * 6


def test_tiles_are_read_band_by_band_from_top_to_bottom(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with levels, so that the overview is read from another one
    path, read = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 240, (4,), 0.5), []
    tiling, pread = list_tilings(path, OpenSlideReader(path).level_sizes)[0], os.pread

    def seen(file: int, count: int, offset: int) -> bytes:
        read.append(offset)
        return pread(file, count, offset)

    monkeypatch.setattr("tilers.readers.direct.os.pread", seen)
    tile(as_slide(path), TileSettings(patch_size=128, reader="direct"), tmp_path / "p.zarr")
    # opening compares a tile or a few with OpenSlide's
    rows = [tiling.offsets.index(offset) // tiling.columns for offset in read if offset in tiling.offsets][1:]
    assert len(rows) > 30
    assert list(dict.fromkeys(rows)) == sorted(set(rows))


@pytest.mark.parametrize("height", [1232, 1237])
def test_the_overview_is_made_from_the_coarsest_level_that_is_fine_enough(
    tmp_path: Path, image: np.ndarray, height: int
) -> None:
    # 2 µm/px is ½ of the second level and ⅛ of the first, exactly where the height is a whole number of its pixels
    path = write_tiff(tmp_path / "s.svs", image[:height, :1504], "ycbcr 4:2:0", 240, (4, 16), 0.25)
    reader = DirectReader(path)
    at_opening = list(reader.decoded)
    read_overview(reader, 0.25)
    read = [now - before for now, before in zip(reader.decoded, at_opening, strict=True)]
    assert reader.downsamples[overview_level(reader, 0.25)] == pytest.approx(8, rel=0.01)
    assert [i for i, tiles in enumerate(read) if tiles] == [overview_level(reader, 0.25)]
    assert sum(read) == 2 * 2


def test_a_stored_level_is_the_overview_where_there_is_one(tmp_path: Path, image: np.ndarray) -> None:
    reader = DirectReader(write_tiff(tmp_path / "s.svs", image[:1232, :1504], "ycbcr 4:2:0", 240, (2, 8), 0.25))
    assert overview_level(reader, 0.25) == 2


def test_memory_holds_a_few_bands_whatever_the_height(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilers.readers.tile_cache._SPARE_BYTES", 0)
    tall = np.tile(detailed_image(512, 512), (20, 1, 1))
    reader = DirectReader(write_tiff(tmp_path / "s.svs", tall, "ycbcr 4:2:0", 256))
    tracemalloc.start()
    for y in range(0, len(tall), 256):
        reader.read(0, 0, y, 512, 256)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 256 * 512 * 3 <= held < 4 * 256 * 512 * 3


@pytest.mark.parametrize("kind", [DirectReader, OpenSlideReader, TiffSlideReader])
def test_absent_tiles_are_white(tmp_path: Path, image: np.ndarray, kind: Callable[[Path], Reader]) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, absent=(0, 8))
    reader = kind(path)
    assert (reader.read(0, 0, 0, 256, 256) == 255).all()
    assert (reader.read(0, 512, 256, 256, 256) == 255).all()
    assert (reader.read(0, 256, 256, 256, 256) < 250).any()


@pytest.mark.parametrize("level", [1, 4])
def test_tiles_absent_from_one_of_several_levels_are_painted_by_openslide(
    tmp_path: Path, image: np.ndarray, level: int
) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 256, (4,), absent=(1,), absent_from=level)
    opened = open_slide(path, "auto")
    assert opened.reader.name == "openslide"
    assert "absent" in str(opened.refused["direct"])
    assert (opened.reader.read(1, 64, 0, 64, 64) < 250).any()
    opened.reader.close()
    with pytest.raises(SlideError, match="lacks tiles of one of its levels, which tiffslide would show as glass"):
        open_slide(path, "tiffslide")


def test_pixels_that_differ_from_the_library_send_a_slide_to_it(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, decode = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 256), JpegTiles.decode
    monkeypatch.setattr(JpegTiles, "decode", lambda *args: decode(*args) ^ 1)
    opened = open_slide(path, "auto")
    assert opened.reader.name == "openslide"
    assert "pixels of level 0 differ from openslide's by up to 1" in str(opened.refused["direct"])
    opened.reader.close()


def test_patches_are_made_side_by_side(tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "s.svs", image[:256, :1024], "ycbcr 4:2:0", 256, mpp=0.5)
    both, decode = Barrier(2), JpegTiles.decode

    def met(codec: JpegTiles, data: bytes, scale: int) -> np.ndarray:
        if scale == 2:
            both.wait(timeout=20)  # breaks where no other tile is decoded at the same time
        return decode(codec, data, scale)

    monkeypatch.setattr(JpegTiles, "decode", met)
    tile(as_slide(path), TileSettings(patch_size=128, reader="direct"), tmp_path / "p.zarr", threads=2)
    assert len(PatchStore(tmp_path / "p.zarr")) == 4


def test_threads_change_nothing(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 240, mpp=0.5)
    stores = []
    for threads in (1, 4):
        tile(as_slide(path), TileSettings(patch_size=128, codec="zstd"), tmp_path / f"{threads}.zarr", threads)
        stores.append(PatchStore(tmp_path / f"{threads}.zarr"))
    assert stores[0].facts.reader == "direct"
    assert len(stores[0]) > 10
    assert stores[0].coords.tolist() == stores[1].coords.tolist()
    assert (stores[0].patches[:] == stores[1].patches[:]).all()
    assert all((stores[0].quality[c] == stores[1].quality[c]).all() for c in stores[0].quality)


def write_other(path: Path, kind: str) -> Path:
    image, tiled = tissue_image(600, 600), {"tile": (256, 256)}
    if kind == "strips":
        tifffile.imwrite(path, image, photometric="rgb", rowsperstrip=16, compression="jpeg")
    elif kind == "16 bits":
        tifffile.imwrite(path, image.astype(np.uint16) * 257, photometric="rgb", **tiled)
    elif kind == "grey":
        tifffile.imwrite(path, image[..., 0], photometric="minisblack", compression="jpeg", **tiled)
    else:
        tifffile.imwrite(path, image, photometric="rgb", compression=kind, **tiled)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("strips", "not tiled"),
        ("16 bits", "3 samples of 16 bits"),
        ("grey", "1 samples of 8 bits"),
        ("deflate", "compression 32946, photometric 2"),
        ("lzw", "compression 5, photometric 2"),
    ],
)
def test_what_it_cannot_read_goes_to_others_with_the_reason(tmp_path: Path, kind: str, reason: str) -> None:
    path = write_other(tmp_path / "s.tif", kind)
    with pytest.raises(NotDirect, match=reason):
        DirectReader(path)
    opened = open_slide(path)
    assert opened.reader.name != "direct"
    assert reason in opened.refused["direct"]
