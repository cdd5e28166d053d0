"""JPEG 2000 tiles are decoded once: what was decoded to find tissue waits on disk for the patches."""

from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from tests.conftest import as_slide, tissue_image
from tests.tilers.tiffs import write_tiff
from tilers.readers.spool import Spool
from tilers.readers.tiles import Jpeg2000Tiles
from tilers.tile import tile
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore

SETTINGS = TileSettings(patch_size=128, reader="direct")
TILE = np.full((4, 4, 3), 7, np.uint8)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The streams of tiles that are decoded, as they are."""
    decode, seen = Jpeg2000Tiles.decode, []

    def counted(codec: Jpeg2000Tiles, data: bytes, scale: int) -> np.ndarray:
        seen.append(data)
        return decode(codec, data, scale)

    monkeypatch.setattr(Jpeg2000Tiles, "decode", counted)
    # every tile is forgotten at once: what is asked for again comes from the disk
    monkeypatch.setattr("tilers.readers.direct._CACHE_BYTES", 0)
    return seen


@pytest.mark.parametrize("threads", [1, 4])
def test_tiles_of_tissue_are_decoded_once(tmp_path: Path, decoded: list[bytes], threads: int) -> None:
    path = write_tiff(tmp_path / "s.svs", tissue_image(620, 760), "jpeg 2000 rgb", 240, mpp=0.5)
    tile(as_slide(path), SETTINGS, tmp_path / "p.zarr", threads)
    assert len(PatchStore(tmp_path / "p.zarr")) > 8
    times = Counter(decoded)
    assert len(times) == 3 * 4
    again = [imagecodecs.jpeg2k_decode(stream) for stream, count in times.items() if count > 1]
    # glass does not wait, and one tile was held against another library's when the slide was opened
    assert len([tile for tile in again if tile.min() < 215]) <= 1


def test_without_room_they_are_decoded_again_to_the_same_patches(
    tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "s.svs", tissue_image(620, 760), "jpeg 2000 rgb", 240, mpp=0.5)
    tile(as_slide(path), SETTINGS, tmp_path / "kept.zarr")
    once = len(decoded)
    free = iter([100])
    monkeypatch.setattr(Spool, "_free", lambda self: next(free, 49))
    tile(as_slide(path), SETTINGS, tmp_path / "again.zarr")
    assert len(decoded) - once > 1.3 * once
    kept, again = (PatchStore(tmp_path / name).patches[:] for name in ("kept.zarr", "again.zarr"))
    assert np.array_equal(kept, again)


def test_nothing_of_it_is_left_where_files_cannot_be_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile._O_TMPFILE_WORKS", False)  # as on a network share
    path = write_tiff(tmp_path / "s.svs", tissue_image(300, 300), "jpeg 2000 rgb", 240, mpp=0.5)
    tile(as_slide(path), SETTINGS, tmp_path / "p.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.zarr", "s.svs"]


def test_a_disk_that_refuses_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.put((0, 0), TILE)

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    spool.put((1, 0), TILE)
    kept = spool.get((0, 0))
    assert kept is not None
    assert np.array_equal(kept, TILE)
    assert spool.get((1, 0)) is None
    spool.close()


def test_what_comes_back_changed_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.put((0, 0), TILE)
    monkeypatch.setattr("os.pread", lambda file, size, place: bytes(size))
    assert spool.get((0, 0)) is None
    spool.close()


def test_a_write_cut_short_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    monkeypatch.setattr("os.pwrite", lambda file, data, place: len(data) - 1)
    spool.put((0, 0), TILE)
    assert spool.get((0, 0)) is None
    spool.close()
