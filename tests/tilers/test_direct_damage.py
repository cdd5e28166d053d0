"""The direct reader on damaged, forged and changing files: what does not decode is no pixels, and nothing crashes."""

import errno
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import as_slide, tissue_image
from tests.tilers.tiffs import jpeg, write_tiff
from tilers.readers import UndecodableRegion, open_slide
from tilers.readers.direct import DirectReader
from tilers.tile import patches_fingerprint, tile
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    # odd sizes: the last row and column of tiles are cut
    return tissue_image(1237, 1511)


def _tile_bytes(path: Path, number: int) -> tuple[int, int]:
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        return page.dataoffsets[number], page.databytecounts[number]


DAMAGE = {
    "zeroed": lambda data: bytes(len(data)),
    "cut in the middle": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "another size": lambda data: _resized(data),
    "a smaller size": lambda data: _resized(data, 240),
    "a tile of other pixels": lambda data: jpeg("444")(tissue_image(128, 128)).ljust(len(data), b"\0"),
    "random": lambda data: np.random.default_rng(0).bytes(len(data)),
}


def _resized(data: bytes, edge: int = 64_000) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + edge.to_bytes(2, "big") * 2 + data[at + 9 :]


JPEG_2000_DAMAGE = {
    **{name: DAMAGE[name] for name in ("zeroed", "cut in the middle", "random")},
    "a hole": lambda data: _with(data, len(data) // 2, bytes(len(data) // 4)),
    # of its SIZ segment (ISO 15444-1): Xsiz and Ysiz, Csiz, and the first Ssiz
    "another size": lambda data: _with(data, 8, (64000).to_bytes(4, "big") * 2),
    "many components": lambda data: _with(data, 40, (16384).to_bytes(2, "big")),
    "deep pixels": lambda data: _with(data, 42, bytes([37])),
}


def _with(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("scale", [1, 2])
def test_a_damaged_tile_is_no_pixels(tmp_path: Path, image: np.ndarray, damage: str, scale: int) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256)
    offset, count = _tile_bytes(path, 29)
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = DAMAGE[damage](bytes(data[offset : offset + count]))
    path.write_bytes(data)
    reader = DirectReader(path)
    level = reader.downsamples.index(scale)
    with pytest.raises(UndecodableRegion, match="tile 29"):
        reader.read(level, 1300 // scale, 1100 // scale, 8, 8)
    assert reader.read(level, 0, 0, 100, 100).shape == (100, 100, 3)


@pytest.mark.parametrize("damage", JPEG_2000_DAMAGE)
def test_a_damaged_jpeg_2000_tile_is_no_pixels(tmp_path: Path, image: np.ndarray, damage: str) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "jpeg 2000 rgb", 256)
    offset, count = _tile_bytes(path, 29)
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = JPEG_2000_DAMAGE[damage](bytes(data[offset : offset + count]))
    path.write_bytes(data)
    with pytest.raises(UndecodableRegion, match="tile 29"):
        DirectReader(path).read(0, 1300, 1100, 8, 8)


def test_a_grey_half_of_a_cut_tile_does_not_reach_the_store(tmp_path: Path) -> None:
    image = tissue_image(1536, 1536)
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 256, mpp=1.0)
    offset, count = _tile_bytes(path, 21)
    data = bytearray(path.read_bytes())
    data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path.write_bytes(data)
    tile(as_slide(path), TileSettings(), tmp_path / "s.zarr")
    facts = PatchStore(tmp_path / "s.zarr").facts
    assert facts.reader == "direct"
    assert (facts.patches_expected, facts.patches_unreadable, facts.patches_disagreeing) == (4, 1, 0)


@pytest.mark.parametrize("offset", [4_000_000_000, 2**63 - 5, 2**64 - 5])
def test_offsets_outside_the_file_are_no_pixels(tmp_path: Path, image: np.ndarray, offset: int) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, big=offset >= 2**32)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileOffsets"]
        width = 4 if tag.dtype == 4 else 8
    with path.open("r+b") as raw:
        raw.seek(tag.valueoffset + 29 * width)
        raw.write(offset.to_bytes(width, "little"))
    with pytest.raises(UndecodableRegion, match="outside the file"):
        DirectReader(path).read(0, 1300, 1100, 8, 8)


@pytest.mark.parametrize(("count", "why"), [(0, "outside the file"), (2_500_000_000, "2,500,000,000 bytes, more than")])
def test_forged_counts_are_no_pixels_and_are_not_read(tmp_path: Path, image: np.ndarray, count: int, why: str) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileByteCounts"]
        assert tag.dtype == 4
    with path.open("r+b") as raw:
        raw.seek(tag.valueoffset + 29 * 4)
        raw.write(count.to_bytes(4, "little"))
        raw.truncate(3_000_000_000)  # of which nothing is written
    reader = DirectReader(path)
    tracemalloc.start()
    with pytest.raises(UndecodableRegion, match=why):
        reader.read(0, 1300, 1100, 8, 8)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


def test_a_tile_of_gigabytes_is_refused_by_every_reader(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "s.svs", tissue_image(200, 250), "ycbcr 4:4:4", 256)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength", "TileWidth", "TileLength"):
            file.pages[0].tags[name].overwrite(65_520)
    with pytest.raises(SlideError) as error:
        open_slide(path)
    assert error.value.cause.count("tiles of 65520×65520 pixels") == 3


def test_directories_in_a_loop_end(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, factors=(4,))
    with tifffile.TiffFile(path) as file:
        first, second = file.pages[0], file.pages[1]
        long = 8 if file.is_bigtiff else 4
        entry, count = (20, 8) if file.is_bigtiff else (12, 2)
        end = second.offset + count + entry * len(second.tags)
        start = first.offset
    with path.open("r+b") as raw:
        raw.seek(end)
        raw.write(start.to_bytes(long, "little"))
    with pytest.raises(SlideError, match="cannot be opened as a slide"):
        open_slide(path, "openslide")
    reader = open_slide(path).reader
    assert reader.size == (1511, 1237)
    assert np.abs(reader.read(0, 0, 0, 1511, 1237).astype(int) - image).mean() < 5
    tile(as_slide(path), TileSettings(patch_size=256), tmp_path / "s.zarr")
    assert len(PatchStore(tmp_path / "s.zarr")) > 4


def _without_tiles(path: Path, page: int) -> Path:
    """The offsets of a level's tiles all point outside the file."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[page].tags["TileOffsets"]
        tag.overwrite([4_000_000_000] * tag.count)
    return path


def test_a_slide_whose_finest_tiles_all_lie_outside_the_file_fails(tmp_path: Path, image: np.ndarray) -> None:
    path = _without_tiles(write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, factors=(4,), mpp=1.0), 0)
    for reader in ("direct", "auto"):
        with pytest.raises(SlideError, match=r"no tile of level 0 decodes|pixels do not decode"):
            tile(as_slide(path), TileSettings(reader=reader), tmp_path / "s.zarr")
    assert not list(tmp_path.glob("*.zarr*"))


def test_a_level_that_is_not_needed_may_lie_outside_the_file(tmp_path: Path, image: np.ndarray) -> None:
    path = _without_tiles(write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, factors=(4,), mpp=1.0), 2)
    tile(as_slide(path), TileSettings(patch_size=256), tmp_path / "s.zarr")
    store = PatchStore(tmp_path / "s.zarr")
    assert "no tile of level 1 decodes" in store.facts.refused_readers["direct"]
    assert store.facts.patches_unreadable == 0
    for patch, (x, y) in zip(store.patches[:], store.coords, strict=True):
        inside = image[y : y + 256, x : x + 256]
        assert np.abs(patch[: inside.shape[0], : inside.shape[1]].astype(int) - inside).mean() < 5


@pytest.mark.parametrize("reader", ["direct", "openslide", "tiffslide"])
def test_a_slide_that_another_file_takes_the_place_of_fails(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, mpp=1.0)
    other = write_tiff(tmp_path / "other.svs", image[::-1], "ycbcr 4:4:4", 256, mpp=1.0)
    kind = type(open_slide(path, reader).reader)
    read = kind.read

    def read_and_replace(self: object, *area: int) -> np.ndarray:
        if other.exists():
            other.rename(path)
        return read(self, *area)

    monkeypatch.setattr(kind, "read", read_and_replace)
    with pytest.raises(SlideError, match="changed while it was read"):
        tile(as_slide(path), TileSettings(reader=reader), tmp_path / "s.zarr")
    assert not list(tmp_path.glob("*.zarr*"))


def test_a_damaged_file_is_told_of_once(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["ImageWidth"].offset
    with path.open("r+b") as raw:
        raw.seek(tag + 2)
        raw.write((60_000).to_bytes(2, "little"))  # no type of a tag
    asked = f"from pathlib import Path; from tilers.readers import open_slide; open_slide(Path({str(path)!r}))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True).stderr
    assert "SlideError" in told
    assert not any(line.startswith(("<tifffile", "<TiffTag")) for line in told.splitlines())


def test_a_slide_replaced_while_it_is_read_fails(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, mpp=1.0)
    read = DirectReader.read

    def read_and_replace(self: DirectReader, *area: int) -> np.ndarray:
        path.write_bytes(path.read_bytes() + b"more")
        return read(self, *area)

    monkeypatch.setattr(DirectReader, "read", read_and_replace)
    with pytest.raises(SlideError, match="changed while it was read"):
        tile(as_slide(path), TileSettings(), tmp_path / "s.zarr")
    assert not list(tmp_path.glob("*.zarr*"))


def test_a_mask_replaced_while_its_slide_is_read_fails(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, mpp=1.0)
    mask = tmp_path / "m.png"
    Image.new("L", (1511, 1237), 255).save(mask)
    read = DirectReader.read

    def read_and_draw(self: DirectReader, *area: int) -> np.ndarray:
        Image.new("L", (1511, 1237), 9).save(mask)
        return read(self, *area)

    monkeypatch.setattr(DirectReader, "read", read_and_draw)
    with pytest.raises(SlideError, match="it or its mask changed while it was read"):
        tile(Slide("s", path, mask=mask), TileSettings(), tmp_path / "s.zarr")


def test_a_slide_replaced_since_it_was_named_fails(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, mpp=1.0)
    name = patches_fingerprint(as_slide(path), TileSettings())
    write_tiff(path, image[::-1], "ycbcr 4:4:4", 256, mpp=1.0)
    with pytest.raises(SlideError, match="changed since the run began"):
        tile(as_slide(path), TileSettings(), tmp_path / "s.zarr", expected=name)


def test_a_damaged_tile_asked_for_again_and_again_holds_no_pixels(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256)
    offset, count = _tile_bytes(path, 29)
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    reader = DirectReader(path)
    tracemalloc.start()
    for _ in range(10):
        with pytest.raises(UndecodableRegion, match="tile 29"):
            reader.read(0, 1280, 1024, 231, 213)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3 * 231 * 213 * 3


def test_a_disk_that_fails_under_a_tile_leaves_the_others(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = DirectReader(write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256))
    monkeypatch.setattr("os.pread", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    monkeypatch.setattr("tilers.readers.direct.WAITS_S", (0.0, 0.0))
    with pytest.raises(UndecodableRegion, match=r"tile \d+ cannot be read \(Input/output error\)"):
        reader.read(0, 600, 600, 8, 8)


def test_a_share_that_is_gone_fails_the_slide_and_one_that_stalls_does_not(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = DirectReader(write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256))
    wanted = DirectReader(tmp_path / "s.svs").read(0, 600, 600, 8, 8)
    read, stalls = os.pread, iter([True, True, False])

    def pread(*given: int) -> bytes:
        if next(stalls, True):
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(*given)

    monkeypatch.setattr("os.pread", pread)
    monkeypatch.setattr("tilers.readers.direct.WAITS_S", (0.0, 0.0))
    assert (reader.read(0, 600, 600, 8, 8) == wanted).all()
    with pytest.raises(SlideError, match=r"cannot be read any more \(Stale file handle\)"):
        reader.read(0, 0, 0, 8, 8)


def test_bytes_that_come_in_pieces_are_one_tile(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = DirectReader(write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256))
    wanted = DirectReader(tmp_path / "s.svs").read(0, 600, 600, 8, 8)
    read = os.pread
    monkeypatch.setattr("os.pread", lambda file, count, offset: read(file, min(count, 1000), offset))
    assert (reader.read(0, 600, 600, 8, 8) == wanted).all()


def test_a_machine_without_memory_is_not_a_damaged_tile(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = DirectReader(write_tiff(tmp_path / "s.svs", image, "jpeg 2000 rgb", 256))

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("imagecodecs.jpeg2k_decode", full)
    with pytest.raises(MemoryError):
        reader.read(0, 600, 600, 8, 8)
