"""What a report shows of a slide: overview, tissue outline and the patches it points at, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.verdicts import verdicts

_OVERVIEW_EDGE = 720
_CROP_EDGE = 320


@dataclass(frozen=True)
class SlidePictures:
    """Pictures of one slide.

    Attributes:
        width, height: of the overview in its own pixels; outlines and boxes use them.
        overview: JPEG data URI. Made from the scanned tissue area; label and macro are never opened.
        outline: SVG path around the tissue.
        grid: SVG path around every patch.
        objections: the same around those whose quality a reader would object to.
        scale: overview pixels per level-0 pixel, x and y.
        origin: level-0 x, y of the overview's corner.
        crops: data URI by patch.
    """

    width: int
    height: int
    overview: str
    outline: str
    grid: str
    objections: str
    scale: tuple[float, float]
    origin: tuple[int, int]
    crops: dict[int, str] = field(default_factory=dict)

    @property
    def font(self) -> float:
        """Height of the numbers on the overview, in its pixels."""
        return round(max(self.width, self.height) / 26, 1)

    def box(self, x: int, y: int, edge: float) -> tuple[float, float, float, float]:
        """A patch on the overview: x, y, width, height."""
        sx, sy = self.scale
        return round((x - self.origin[0]) * sx, 1), round((y - self.origin[1]) * sy, 1), edge * sx, edge * sy


def take_pictures(store: PatchStore, shown: Iterable[int]) -> SlidePictures:
    """Pictures of a slide and of its patches `shown`."""
    facts, thumbnail, mask = store.facts, store.thumbnail, store.mask
    factor = min(1.0, _OVERVIEW_EDGE / max(thumbnail.shape[:2]))
    width, height = max(1, round(thumbnail.shape[1] * factor)), max(1, round(thumbnail.shape[0] * factor))
    small = np.asarray(Image.fromarray(thumbnail).resize((width, height), Image.Resampling.BOX))
    scale = (width / facts.scanned[0], height / facts.scanned[1])
    corners = (store.coords - np.array(facts.origin)) * np.array(scale)
    edges = (facts.patch_level0 * scale[0], facts.patch_level0 * scale[1])
    bad = np.any(list(verdicts(store.quality).values()), axis=0) if len(store) else np.zeros(0, bool)
    return SlidePictures(
        width=width,
        height=height,
        overview=_data_uri(small, 78),
        outline=_outline(mask, factor),
        grid=_squares(corners, edges),
        objections=_squares(corners[bad], edges),
        scale=scale,
        origin=facts.origin,
        crops={i: _crop(np.asarray(store.patches[i])) for i in sorted(set(shown))},
    )


def _outline(mask: NDArray[np.bool_], factor: float) -> str:
    """Contours of the mask as one SVG path, simplified to half a pixel."""
    padded = np.pad(mask.astype(np.float32), 1)
    pieces = []
    for contour in find_contours(padded, 0.5):
        line = approximate_polygon((contour - 0.5) * factor, 0.5)
        if len(line) > 3:
            points = " ".join(f"{x:.1f},{y:.1f}" for y, x in line)
            pieces.append(f"M{points}Z")
    return " ".join(pieces)


def _squares(corners: NDArray[np.float64], edges: tuple[float, float]) -> str:
    """(n, 2) x, y of their corners as one SVG path of rectangles."""
    width, height = edges
    return " ".join(f"M{x:.1f},{y:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z" for x, y in corners)


def _crop(patch: NDArray[np.uint8]) -> str:
    edge = min(_CROP_EDGE, patch.shape[0])
    return _data_uri(np.asarray(Image.fromarray(patch).resize((edge, edge), Image.Resampling.LANCZOS)), 82)


def _data_uri(image: NDArray[np.uint8], quality: int) -> str:
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
