"""Plain JPEG and PNG, whose resolution the user gives."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import tissue_image
from tilers.readers import open_slide
from tilers.tile import tile
from wsi_pipeline.cases import Slide, discover
from wsi_pipeline.errors import SlideError, UsageError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return tissue_image(1237, 1511)


def written(path: Path, image: np.ndarray, **options: object) -> Path:
    Image.fromarray(image).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["s.png", "s.jpg"])
def test_a_picture_is_tiled_at_the_resolution_given(tmp_path: Path, image: np.ndarray, name: str) -> None:
    path = written(tmp_path / name, image)
    tile(Slide("s", path, mpp=0.5), TileSettings(patch_size=256, codec="zstd"), tmp_path / "s.zarr")
    store = PatchStore(tmp_path / "s.zarr")
    assert (store.facts.reader, store.facts.mpp, store.facts.mpp_source) == ("picture", 0.5, "manifest")
    pixels = np.asarray(Image.open(path)).astype(float)
    for patch, (x, y) in zip(np.concatenate(list(store.batches(8))), store.coords, strict=True):
        if x + 512 <= image.shape[1] and y + 512 <= image.shape[0]:
            exact = pixels[y : y + 512, x : x + 512].reshape(256, 2, 256, 2, 3).mean((1, 3))
            assert np.abs(patch - exact).max() <= 0.51


def test_without_a_resolution_it_says_how_to_give_one(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(SlideError, match=r"no resolution is stated.*--mpp"):
        tile(Slide("s", written(tmp_path / "s.png", image)), TileSettings(), tmp_path / "s.zarr")


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_grey_and_transparent_pictures_become_rgb_on_white(tmp_path: Path, image: np.ndarray, mode: str) -> None:
    picture = Image.fromarray(image).convert(mode)
    if "A" in mode:
        picture.putalpha(
            Image.fromarray(np.where(np.arange(1511) < 700, 0, 255).astype(np.uint8)[None].repeat(1237, 0))
        )
    picture.save(tmp_path / "s.png")
    white = Image.new("RGBA", picture.size, "white")
    wanted = np.asarray(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))
    seen = open_slide(tmp_path / "s.png").reader.read(0, -5, -9, 1600, 1300)
    assert (seen[9:1246, 5:1516] == wanted).all()
    seen[9:1246, 5:1516] = 255
    assert (seen == 255).all()


def test_pictures_are_slides_only_where_they_are_named(tmp_path: Path, image: np.ndarray) -> None:
    path = written(tmp_path / "macro.jpg", image)
    assert [s.path for s in discover(path)[0].slides] == [path]
    with pytest.raises(UsageError, match="holds no slides"):
        discover(tmp_path)


def png_of(width: int, height: int, bits: int = 8) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def jpeg_of(data: bytes, edge: int) -> bytes:
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + 2 * edge.to_bytes(2, "big") + data[frame + 4 :]


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("bomb.png", lambda _: png_of(200_000, 200_000), r"200000×200000 pixels are more than.*vips"),
        ("bomb.jpg", lambda data: jpeg_of(data, 65_000), r"65000×65000 pixels are more than.*vips"),
        ("deep.png", lambda _: png_of(2, 2, 16), "16 bits per colour|does not decode"),
        ("cut.png", lambda data: data[: len(data) // 2], "PNG that does not decode"),
        ("cut.jpg", lambda data: data[: len(data) // 2], "JPEG that does not decode"),
        ("other.png", lambda _: b"BM" + bytes(100), "neither JPEG nor PNG"),
    ],
)
def test_what_it_refuses(tmp_path: Path, image: np.ndarray, name: str, spoil: object, reason: str) -> None:
    path = written(tmp_path / name, image)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SlideError, match=reason):
        open_slide(path)


def test_cmyk_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).convert("CMYK").save(tmp_path / "s.jpg")
    with pytest.raises(SlideError, match="not in grey or RGB"):
        open_slide(tmp_path / "s.jpg")
