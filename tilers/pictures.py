"""A tiled slide to look at: a preview picture, and GeoJSON that QuPath opens."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.verdicts import WORDS, verdicts

_EDGE = 1600
_OUTLINE, _PATCH = (20, 110, 60), (40, 60, 90)
_OBJECTION = {"blurred": (214, 120, 0), "dark": (120, 50, 140), "pen": (190, 30, 45)}
_LEGEND = 26

Ring = list[list[float]]


def preview(store: PatchStore) -> Image.Image:
    """The overview with tissue outlined and every patch framed; frames of patches with an objection are coloured."""
    facts, thumbnail = store.facts, store.thumbnail
    scale = _EDGE / max(thumbnail.shape[:2])
    width, height = max(1, round(thumbnail.shape[1] * scale)), max(1, round(thumbnail.shape[0] * scale))
    picture = Image.new("RGB", (width, height + _LEGEND), "white")
    picture.paste(Image.fromarray(thumbnail).resize((width, height), Image.Resampling.LANCZOS))
    pen = ImageDraw.Draw(picture)
    sx, sy = width / facts.scanned[0], height / facts.scanned[1]
    colours = _colours(store)
    for (x, y), colour in zip(store.coords, colours, strict=True):
        left, top = (x - facts.origin[0]) * sx, (y - facts.origin[1]) * sy
        edge = facts.patch_level0
        right, bottom = min(left + edge * sx, width - 1), min(top + edge * sy, height - 1)
        # the last patch may begin within the last pixel
        pen.rectangle(
            (min(left, right), min(top, bottom), right, bottom), outline=colour, width=1 if colour == _PATCH else 3
        )
    for ring in _rings(store.mask):
        pen.line([(float(x) * scale, float(y) * scale) for x, y in ring], fill=_OUTLINE, width=2)
    counts = {WORDS[what]: int(hit.sum()) for what, hit in verdicts(store.quality).items()} if len(store) else {}
    words = [
        f"{len(store)} patches, {facts.tissue_mm2:.1f} mm2 of tissue",
        *(f"{n} {w}" for w, n in counts.items() if n),
    ]
    pen.text((6, height + 6), " · ".join(words), fill="black", font_size=14)
    return picture


def _colours(store: PatchStore) -> list[tuple[int, int, int]]:
    colours = [_PATCH] * len(store)
    for what, hit in verdicts(store.quality).items() if len(store) else ():
        for index in np.flatnonzero(hit):
            colours[index] = _OBJECTION[what]
    return colours


def geojson(store: PatchStore) -> dict[str, Any]:
    """Tissue as annotations and patches as detections with their measurements.

    Places are level-0 pixels from the corner of the scanned area, as QuPath crops slides to it. The properties are
    those QuPath writes and reads (objectType, classification, measurements).
    """
    facts = store.facts
    sx, sy = facts.scanned[0] / store.mask.shape[1], facts.scanned[1] / store.mask.shape[0]
    tissue = [
        _feature([[[x * sx, y * sy] for x, y in ring] for ring in piece], "annotation", "Tissue", {})
        for piece in _polygons(store.mask)
    ]
    columns = {"tissue": store.tissue, **store.quality}
    edge = facts.patch_level0
    patches = [
        _feature(
            [[[x, y], [x + edge, y], [x + edge, y + edge], [x, y + edge], [x, y]]],
            "detection",
            "Patch",
            {"patch": index} | {name: round(float(values[index]), 5) for name, values in columns.items()},
        )
        for index, (x, y) in enumerate((store.coords - np.array(facts.origin, float)).tolist())
    ]
    return {"type": "FeatureCollection", "features": tissue + patches}


def _feature(rings: list[Ring], kind: str, name: str, measurements: dict[str, float]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {"objectType": kind, "classification": {"name": name}, "measurements": measurements},
    }


def _polygons(mask: NDArray[np.bool_]) -> list[list[Ring]]:
    """Every piece of tissue: its outer ring, then its holes."""
    pieces = ndimage.label(mask)[0]
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), 1):
        rings = _rings(pieces[rows, columns] == number)
        rings.sort(key=lambda ring: -np.ptp(ring[:, 0]) * np.ptp(ring[:, 1]))
        corner = np.array([columns.start, rows.start])
        found.append([(ring + corner).tolist() for ring in rings])
    return [rings for rings in found if rings]


def _rings(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed contours (n, 2) x, y in mask pixels, simplified to half a pixel."""
    contours = find_contours(np.pad(mask.astype(np.float32), 1), 0.5)
    # contours run through pixel centres of the padded mask: half a pixel back to corners
    lines = [approximate_polygon(contour - 0.5, 0.5)[:, ::-1] for contour in contours]
    return [line for line in lines if len(line) > 3]
