"""Damage that decodes: patches are held against the overview, which comes from other bytes."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.conftest import as_slide, tissue_image
from tests.tilers.tiffs import replace_tile, write_tiff
from tilers.tile import tile
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore

SETTINGS = TileSettings(patch_size=256, mpp=0.5)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return tissue_image(1600, 2000)


def stored(path: Path, folder: Path, **settings: object) -> PatchStore:
    tile(as_slide(path), SETTINGS.model_copy(update=settings), folder / "s.zarr")
    return PatchStore(folder / "s.zarr")


@pytest.mark.parametrize("reader", ["direct", "openslide", "tiffslide"])
def test_a_patch_that_shows_something_else_than_the_overview_is_no_patch(
    tmp_path: Path, image: np.ndarray, reader: str
) -> None:
    # 8 columns of tiles, as many of patches: tile 28 is tissue, tile 0 is glass
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 256, factors=(4,))
    whole = stored(path, tmp_path, reader=reader)
    assert [1024, 768] in whole.coords.tolist()
    replace_tile(path, 0, 28, by=0)
    store = stored(path, tmp_path / "damaged", reader=reader)
    assert (store.facts.patches_unreadable, store.facts.patches_disagreeing) == (1, 1)
    assert store.facts.warnings == ()
    assert [xy for xy in whole.coords.tolist() if xy not in store.coords.tolist()] == [[1024, 768]]


def test_flipped_bits_that_decode_to_garbage_do_not_reach_the_store(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:4:4", 256, factors=(4,))
    whole = stored(path, tmp_path)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[28], file.pages[0].databytecounts[28]
    rng = np.random.default_rng(1)
    noticed = 0
    for trial in range(30):
        damaged = bytearray(data)
        damaged[offset + int(rng.integers(700, count // 2))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        store = stored(path, tmp_path / str(trial))
        here = [i for i, xy in enumerate(store.coords.tolist()) if xy == [1024, 768]]
        if not here:
            noticed += 1
            continue
        (there,) = (i for i, xy in enumerate(whole.coords.tolist()) if xy == [1024, 768])
        a, b = store.patches[here[0]].astype(float), whole.patches[there]
        cells = np.abs((a - b).reshape(16, 16, 16, 16, 3).mean((1, 3)))
        assert cells.max() < 80, trial
    assert noticed > 5


def test_where_the_overview_does_not_decode_nothing_is_held_against_a_patch(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 256, factors=(4,))
    expected = stored(path, tmp_path).coords.tolist()
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[2].dataoffsets[1], file.pages[2].databytecounts[1]
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes(count))
    store = stored(path, tmp_path / "damaged")
    assert store.facts.patches_unreadable == 0
    assert any("overview does not decode everywhere" in warning for warning in store.facts.warnings)
    assert {tuple(xy) for xy in expected} <= {tuple(xy) for xy in store.coords.tolist()}


def test_levels_that_differ_all_over_are_believed_and_said(tmp_path: Path, image: np.ndarray) -> None:
    path = write_tiff(tmp_path / "s.svs", image, "ycbcr 4:2:0", 256, factors=(4,))
    other = write_tiff(tmp_path / "o.svs", 255 - (255 - image) // 3, "ycbcr 4:2:0", 256, factors=(4,))
    with tifffile.TiffFile(other) as file:
        page = file.pages[2]
        offsets, counts = page.dataoffsets, page.databytecounts
        tiles = [other.read_bytes()[a : a + n] for a, n in zip(offsets, counts, strict=True)]
    end = path.stat().st_size
    with path.open("ab") as raw:
        raw.write(b"".join(tiles))
    with tifffile.TiffFile(path, mode="r+b") as file:
        starts = [end + sum(map(len, tiles[:k])) for k in range(len(tiles))]
        file.pages[2].tags["TileOffsets"].overwrite(starts)
        file.pages[2].tags["TileByteCounts"].overwrite([len(t) for t in tiles])
    store = stored(path, tmp_path / "other")
    assert len(store) > 20
    assert store.facts.patches_unreadable == 0
    assert any("levels show different pictures" in w for w in store.facts.warnings)


def test_a_slide_that_shows_something_else_everywhere_it_can_be_asked_fails(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "s.svs", tissue_image(512, 512), "ycbcr 4:2:0", 256, factors=(4,))
    for number in range(4):
        replace_tile(path, 0, number, by=0)
    with pytest.raises(SlideError, match="levels show different pictures"):
        tile(as_slide(path), TileSettings(patch_size=512, mpp=0.5), tmp_path / "s.zarr")
