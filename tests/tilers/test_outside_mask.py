import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import MakeSlide, tissue_image
from tests.tilers.test_picture import png_of
from tests.tilers.vendors import write_leica
from tilers.pictures import geojson, preview
from tilers.tile import patches_fingerprint, tile
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore

SETTINGS = TileSettings(patch_size=128)


def tiled(path: Path, mask: Path | None) -> PatchStore:
    final = path.with_name(f"{mask.name if mask else 'none'}.zarr")
    tile(Slide("s", path, mask=mask), SETTINGS, final)
    return PatchStore(final)


@pytest.fixture
def slide(make_slide: MakeSlide) -> Path:
    return make_slide(image=tissue_image(1500, 2000), mpp=1.0, power=10, factors=())


def test_polygons_replace_our_mask_with_their_holes(slide: Path, tmp_path: Path) -> None:
    outer = [[256, 128], [1024, 128], [1024, 1024], [256, 1024], [256, 128]]
    hole = [[512, 384], [768, 384], [768, 640], [512, 640], [512, 384]]
    ignored = [[0, 0], [2000, 0], [2000, 1500], [0, 1500], [0, 0]]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [outer, hole]}, "properties": {}},
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ignored]},
            "properties": {"classification": {"name": "Ignore*"}},
        },
    ]
    (tmp_path / "m.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    places = {(x // 128, y // 128) for x, y in tiled(slide, tmp_path / "m.geojson").coords.tolist()}
    wanted = {(x, y) for x in range(2, 8) for y in range(1, 8)} - {(4, 3), (5, 3), (4, 4), (5, 4)}
    assert places == wanted


def test_pieces_of_one_shape_are_all_tissue(slide: Path, tmp_path: Path) -> None:
    squares = [[[[x, y], [x + 128, y], [x + 128, y + 128], [x, y + 128], [x, y]]] for x, y in ((128, 128), (1024, 512))]
    (tmp_path / "m.geojson").write_text(json.dumps({"type": "MultiPolygon", "coordinates": squares}))
    assert tiled(slide, tmp_path / "m.geojson").coords.tolist() == [[128, 128], [1024, 512]]


def test_a_picture_spans_the_whole_slide(slide: Path, tmp_path: Path) -> None:
    pixels = np.zeros((150, 200), np.uint8)
    pixels[64:128, 128:192] = 1
    Image.fromarray(pixels).save(tmp_path / "m.png")
    store = tiled(slide, tmp_path / "m.png")
    assert (store.tissue == 1).any()
    assert store.coords[store.tissue > 0.5].min(0).tolist() == [1280, 640]
    assert store.coords[store.tissue > 0.5].max(0).tolist() == [1792, 1152]


@pytest.mark.parametrize(("marked", "bare"), [((0, 0, 4, 255), (0, 0, 0, 255)), ((9, 0, 0, 255), (255, 255, 255, 0))])
def test_any_colour_marks_and_what_is_transparent_does_not(
    slide: Path, tmp_path: Path, marked: tuple[int, ...], bare: tuple[int, ...]
) -> None:
    image = Image.new("RGBA", (200, 150), bare)
    image.paste(marked, (0, 0, 100, 150))
    image.save(tmp_path / "m.png")
    mask = tiled(slide, tmp_path / "m.png").mask
    assert mask[:, : mask.shape[1] // 2 - 1].all()
    assert not mask[:, mask.shape[1] // 2 + 1 :].any()


def test_our_own_geojson_gives_our_own_patches_back(slide: Path, tmp_path: Path) -> None:
    store = tiled(slide, None)
    (tmp_path / "m.geojson").write_text(json.dumps(geojson(store)["features"][:1]))
    again = tiled(slide, tmp_path / "m.geojson")
    assert again.mask.shape == store.mask.shape
    assert (again.mask != store.mask).mean() < 0.01


def test_shapes_count_from_the_scanned_area_as_in_qupath(tmp_path: Path) -> None:
    path = write_leica(tmp_path / "s.scn", tissue_image(1500, 2000), 1.0)
    square = [[256, 128], [1024, 128], [1024, 1024], [256, 1024], [256, 128]]
    (tmp_path / "m.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [square]}))
    store = tiled(path, tmp_path / "m.geojson")
    assert store.facts.origin == (300, 300)
    assert store.coords.min(0).tolist() == [300 + 256, 300 + 128]
    tissue, *patches = geojson(store)["features"]
    assert np.allclose(np.min(tissue["geometry"]["coordinates"][0], 0), [256, 128], atol=16)
    assert np.min([p["geometry"]["coordinates"][0] for p in patches], (0, 1)).tolist() == [256, 128]


def test_a_patch_in_the_last_pixel_of_the_preview_is_drawn(make_slide: MakeSlide) -> None:
    stained = np.full((128, 160 * 128 + 10, 3), (205, 120, 175), np.uint8)
    store = tiled(make_slide(image=stained, mpp=1.0, power=10, factors=()), None)
    assert store.coords[-1].tolist() == [160 * 128, 0]
    assert preview(store).size[0] == 1600


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("m.geojson", b"{", "no GeoJSON"),
        ("m.geojson", b'{"type": "Point", "coordinates": [1, 2]}', "Point has no area"),
        ("m.geojson", b'{"features": []}', "marks nothing"),
        ("m.geojson", b'{"type": "Polygon", "coordinates": [[[1, 2]]]}', "three points"),
        ("m.geojson", b'{"type": "Polygon", "coordinates": [[[1, 2], [3, NaN], [5, 6]]]}', "finite"),
        ("m.png", png_of(400_000, 300_000), "cannot be read as a mask.*decompression bomb"),
        ("m.png", b"no picture", "is no picture that can be read as a mask\\. Fix"),
    ],
)
def test_an_unusable_mask_fails_its_slide(slide: Path, tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=cause):
        tiled(slide, tmp_path / name)


def test_a_picture_of_another_slide_is_refused(slide: Path, tmp_path: Path) -> None:
    Image.new("L", (100, 100), 255).save(tmp_path / "m.png")
    with pytest.raises(SlideError, match="another shape"):
        tiled(slide, tmp_path / "m.png")


def test_a_missing_mask_is_named_and_a_changed_one_is_another_store(slide: Path, tmp_path: Path) -> None:
    mask = tmp_path / "m.png"
    with pytest.raises(SlideError, match=r"m\.png"):
        patches_fingerprint(Slide("s", slide, mask=mask), SETTINGS)
    names = set()
    for value in (0, 255):
        Image.new("L", (200, 150), value).save(mask)
        names.add(patches_fingerprint(Slide("s", slide, mask=mask), SETTINGS))
    assert len(names) == 2
