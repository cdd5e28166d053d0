"""Tiled TIFFs that no scanner wrote: generic pyramids, OME with levels below the first directory, colour profiles."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from tests.conftest import as_slide, tissue_image
from tilers.readers import open_slide
from tilers.tile import tile
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore

Write = Callable[..., Path]

TILED = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return tissue_image(1237, 1511)


def write_generic(path: Path, image: np.ndarray, mpp: float = 0.5, profile: bytes | None = None) -> Path:
    """A pyramid as libvips writes it: levels are reduced pages, the resolution stands in its tags."""
    with tifffile.TiffWriter(path) as writer:
        for factor in (1, 2, 4):
            level = np.asarray(Image.fromarray(image).reduce(factor))
            per_cm = 1e4 / (mpp * factor)
            writer.write(
                level, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", subfiletype=int(factor > 1),
                metadata=None, iccprofile=profile, **TILED,
            )  # fmt: skip
    return path


def write_ome(path: Path, image: np.ndarray, mpp: float = 0.5) -> Path:
    """A pyramid as OME-TIFF 6 has it: levels hang below the first directory, the resolution stands in its XML."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        size = {f"PhysicalSize{axis}{unit}": value for axis in "XY" for unit, value in (("", mpp), ("Unit", "µm"))}
        writer.write(image, subifds=2, metadata={"axes": "YXS"} | size, **TILED)
        for factor in (2, 4):
            writer.write(np.asarray(Image.fromarray(image).reduce(factor)), subfiletype=1, **TILED)
    return path


def swapped_profile() -> bytes:
    """A colour profile that makes red blue, were it applied."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


@pytest.mark.parametrize("write", [write_generic, write_ome])
def test_every_level_has_the_pixels_of_the_library(tmp_path: Path, image: np.ndarray, write: Write) -> None:
    path = write(tmp_path / ("s.ome.tif" if write is write_ome else "s.tif"), image)
    opened = open_slide(path)
    assert opened.reader.name == "direct", opened.refused
    other = open_slide(path, "tiffslide").reader
    assert opened.reader.level_sizes == other.level_sizes
    assert len(other.level_sizes) == 3
    for level, (width, height) in enumerate(other.level_sizes):
        for area in ((0, 0, width, height), (-13, -7, 100, 100), (width - 91, height - 67, 300, 201)):
            assert (opened.reader.read(level, *area) == other.read(level, *area)).all(), (level, area)


@pytest.mark.parametrize(("write", "source"), [(write_generic, "TIFF tags"), (write_ome, "vendor")])
def test_they_are_tiled_at_the_resolution_they_state(
    tmp_path: Path, image: np.ndarray, write: Write, source: str
) -> None:
    path = write(tmp_path / ("s.ome.tif" if write is write_ome else "s.tif"), image)
    tile(as_slide(path), TileSettings(patch_size=256), tmp_path / "s.zarr")
    facts = PatchStore(tmp_path / "s.zarr").facts
    assert (facts.reader, facts.mpp_source) == ("direct", source)
    assert facts.read_downsample == pytest.approx(2, rel=1e-3)  # sizes of levels are rounded
    assert facts.mpp == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("reader", ["direct", "openslide", "tiffslide"])
def test_a_colour_profile_changes_no_pixel(tmp_path: Path, image: np.ndarray, reader: str) -> None:
    profile = swapped_profile()
    with_it, without = (
        write_generic(tmp_path / f"{name}.tif", image, profile=some) for name, some in (("a", profile), ("b", None))
    )
    assert with_it.stat().st_size >= without.stat().st_size + len(profile)
    shown = ImageCms.profileToProfile(
        Image.fromarray(image), ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
    )
    assert np.abs(np.asarray(shown).astype(int) - image).max() > 20  # it would be seen
    a, b = (open_slide(path, reader).reader.read(1, 0, 0, 700, 600) for path in (with_it, without))
    assert (a == b).all()
