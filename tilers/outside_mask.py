"""A tissue mask that someone else drew: GeoJSON as QuPath exports it, or a PNG over the whole slide."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, UnidentifiedImageError

from tilers.overview import Overview
from tilers.readers.base import Reader
from wsi_pipeline.cases.location import Location
from wsi_pipeline.errors import SlideError

_SHAPE_TOLERANCE = 0.02
_FIX = "export it again, in the pixels of this slide's level 0"

Ring = list[tuple[float, float]]


def read_mask(path: Location, reader: Reader, overview: Overview) -> NDArray[np.bool_]:
    """The mask on the pixels of the overview.

    GeoJSON polygons are in level-0 pixels from the corner of the scanned area, which is where QuPath counts from (it
    crops a slide to its bounds); their holes are no tissue, and features of a class that ends in `*` are ignored, as
    there. A PNG spans the whole of level 0; what is neither black nor transparent is tissue.

    Raises:
        SlideError: not such a file, nothing in it, or not of this slide.
    """
    try:
        mask = _drawn(path, overview) if path.suffix.lower() != ".png" else _picture(path, reader, overview)
    except UnidentifiedImageError:
        raise SlideError(path, "is no picture that can be read as a mask", "give GeoJSON or PNG") from None
    except (OSError, Image.DecompressionBombError) as error:
        # an OSError's own text names folders, which may hold names
        cause = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
        raise SlideError(path, f"cannot be read as a mask ({cause})", "give GeoJSON or PNG") from None
    if not mask.any():
        raise SlideError(path, "marks nothing on this slide", _FIX)
    return mask


def _drawn(path: Location, overview: Overview) -> NDArray[np.bool_]:
    height, width = overview.image.shape[:2]
    sx, sy = overview.scale
    total = np.zeros((height, width), bool)
    try:
        polygons = list(_polygons(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SlideError(path, f"is no GeoJSON of polygons ({error})", "export annotations as GeoJSON") from None
    for rings in polygons:
        # holes belong to their own polygon: another one may lie inside
        piece = Image.new("1", (width, height))
        pen = ImageDraw.Draw(piece)
        for number, ring in enumerate(rings):
            corners = [(x / sx, y / sy) for x, y in ring]
            pen.polygon(corners, fill=int(number == 0))
        total |= np.asarray(piece)
    return total


def _polygons(data: Any) -> Iterator[list[Ring]]:
    """Rings of every polygon, the outer one first."""
    features = data if isinstance(data, list) else data.get("features", [data])
    for feature in features:
        named = (feature.get("properties") or {}).get("classification") or {}
        if str(named.get("name", "")).endswith("*"):
            continue
        geometry = feature.get("geometry", feature)
        if geometry["type"] == "Polygon":
            yield [_ring(ring) for ring in geometry["coordinates"]]
        elif geometry["type"] == "MultiPolygon":
            for polygon in geometry["coordinates"]:
                yield [_ring(ring) for ring in polygon]
        else:
            raise ValueError(f"a {geometry['type']} has no area")


def _ring(points: Any) -> Ring:
    ring = [(float(x), float(y)) for x, y, *_ in points]
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("a ring takes three points or more, and numbers that are finite")
    return ring


def _picture(path: Location, reader: Reader, overview: Overview) -> NDArray[np.bool_]:
    with path.open("rb") as file, Image.open(file) as image:
        width, height = image.size
        ratio = (width / height) / (reader.size[0] / reader.size[1])
        if abs(ratio - 1) > _SHAPE_TOLERANCE:
            raise SlideError(path, f"is {width} × {height}, another shape than the slide's "
                             f"{reader.size[0]} × {reader.size[1]}", _FIX)  # fmt: skip
        sx, sy = width / reader.size[0], height / reader.size[1]
        bounds = overview.bounds
        box = (bounds.x * sx, bounds.y * sy, (bounds.x + bounds.width) * sx, (bounds.y + bounds.height) * sy)
        shape = overview.image.shape
        clear = Image.new("RGBA", image.size, "black")
        clear.alpha_composite(image.convert("RGBA"))
        red, green, blue, _ = clear.split()
        brightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
        small = brightest.point(lambda v: 255 * (v > 0)).resize((shape[1], shape[0]), box=box, reducing_gap=2)
    return np.asarray(small) > 127
