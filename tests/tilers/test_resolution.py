from pathlib import Path

import pytest
import tifffile

from tests.conftest import MakeSlide, tissue_image
from tilers.readers import open_slide
from tilers.readers.ome import ome_mpp
from tilers.resolution import Resolution, resolve
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings, parse_resolution


def resolved(path: Path, manifest: float | None = None, **settings: float) -> Resolution:
    reader = open_slide(path).reader
    try:
        return resolve(path, reader, manifest, TileSettings(**settings))
    finally:
        reader.close()


def test_who_wins(make_slide: MakeSlide) -> None:
    path = make_slide(mpp=0.25, power=40)
    assert resolved(path).source == "vendor"
    assert resolved(path, 0.3) == Resolution(0.3, "manifest")
    assert resolved(path, default_mpp=0.7).mpp == 0.25
    told = "0.3 µm/px is stated; --force-mpp 0.7 counts"
    assert resolved(path, 0.3, force_mpp=0.7) == Resolution(0.7, "--force-mpp", (told,))
    assert resolved(path, force_mpp=0.25) == Resolution(0.25, "--force-mpp")


def test_objective_power_is_next(make_slide: MakeSlide) -> None:
    found = resolved(make_slide(mpp=None, power=20))
    assert (found.mpp, found.source) == (0.5, "objective power")


def test_power_that_contradicts_is_a_warning(make_slide: MakeSlide) -> None:
    found = resolved(make_slide(mpp=0.25, power=20))
    assert found.mpp == 0.25
    assert "contradicts" in found.warnings[0]


@pytest.mark.parametrize("name", ["plain.tif", "plain.tiff"])
def test_tiff_tags_are_believed_only_when_believable(make_slide: MakeSlide, name: str) -> None:
    found = resolved(make_slide(name, resolution=0.5))
    assert (round(found.mpp, 3), found.source) == (0.5, "TIFF tags")
    assert "often wrong" in found.warnings[0]


def test_72_dpi_is_no_resolution(make_slide: MakeSlide) -> None:
    path = make_slide("plain.tif", resolution=352.8)
    with pytest.raises(SlideError, match=r"352\.8.* µm/px, which is not believed.*manifest, or --mpp"):
        resolved(path)
    assert resolved(path, default_mpp=0.5).source == "--mpp"


@pytest.mark.parametrize(("text", "mpp"), [("10X", 1.0), ("40x", 0.25), ("0.5", 0.5), ("1 µm", 1.0), ("2mpp", 2.0)])
def test_resolutions_in_words(text: str, mpp: float) -> None:
    assert parse_resolution(text) == mpp


@pytest.mark.parametrize("text", ["ten", "0X", "", "X"])
def test_what_is_no_resolution(text: str) -> None:
    with pytest.raises(ValueError, match="10X"):
        parse_resolution(text)


@pytest.mark.parametrize("reader", ["direct", "openslide", "tiffslide"])
@pytest.mark.parametrize(("size", "unit"), [(0.2527, "µm"), (252.7, "nm"), (2.527e-4, "mm")])
def test_ome_physical_sizes_count_in_every_reader(tmp_path: Path, reader: str, size: float, unit: str) -> None:
    path = tmp_path / "slide.ome.tif"
    stated = {f"PhysicalSize{axis}": size for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        image = tissue_image(512, 512)
        writer.write(image, tile=(256, 256), photometric="rgb", compression="jpeg", metadata={"axes": "YXS"} | stated)
    slide = open_slide(path, reader).reader
    found = resolve(path, slide, None, TileSettings())
    slide.close()
    assert found.source == "vendor"
    assert found.mpp == pytest.approx(0.2527)


@pytest.mark.parametrize("text", ["<OME", '<!DOCTYPE x [<!ENTITY a "b">]><OME/>', "<OME><Image/></OME>", "no XML"])
def test_ome_xml_that_states_nothing_is_none(text: str) -> None:
    assert ome_mpp(text) is None
