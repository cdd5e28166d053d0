"""Make one phantom slide: lay out tissue and lesion, stain it, scan it into a pyramidal file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tilers.readers.base import PHANTOM_MARKER
from workflows.phantom.pathology import VERSION, organ_named
from workflows.phantom.tissue import FIELD_MPP, Field, Stains, draw, smooth_noise


@dataclass(frozen=True)
class SlideSpec:
    """Everything that determines a phantom slide, byte for byte.

    Attributes:
        seed: of all that is random on it.
        organ, diagnosis: names from `pathology`; a benign diagnosis draws no lesion.
        width_mm, height_mm: the scanned area.
        lesion_mm: diameter of each focus; 0 for none.
        foci: how many.
        place: centre of the first focus as fractions of width and height; None lets the seed choose.
        mpp: µm per pixel of level 0 (1.0, 0.5, 0.25: 10X, 20X, 40X).
        factors: downsample of each further level.
        tile: tile edge in pixels.
        quality: JPEG quality of the file.
        layout: `svs` (Aperio header) or `tiff` (plain pyramid with resolution tags).
        artefacts: pen, fold and bubble, where the seed puts them.
    """

    seed: int
    organ: str
    diagnosis: str
    width_mm: float = 3.8
    height_mm: float = 2.9
    lesion_mm: float = 1.2
    foci: int = 1
    place: tuple[float, float] | None = None
    mpp: float = 1.0
    factors: tuple[int, ...] = (4,)
    tile: int = 256
    quality: int = 85
    layout: Literal["svs", "tiff"] = "svs"
    artefacts: bool = True


@dataclass(frozen=True)
class Layout:
    """Tissue and lesion of a slide as maps at `FIELD_MPP`, the slide's truth."""

    tissue: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def lay_out(spec: SlideSpec) -> Layout:
    """Where tissue and lesion lie."""
    rng = np.random.default_rng([VERSION, spec.seed, 0])
    shape = _shape(spec)
    tissue = _silhouette(rng, spec.organ, shape)
    organ = organ_named(spec.organ)
    lesion = np.zeros(shape, bool)
    if spec.diagnosis != organ.benign.text and spec.lesion_mm > 0:
        radius = spec.lesion_mm * 1000 / FIELD_MPP / 2
        for focus in range(spec.foci):
            lesion |= _focus(rng, tissue, radius, spec.place if focus == 0 else None)
    return Layout(tissue, lesion & tissue)


def make_slide(path: Path, spec: SlideSpec) -> Layout:
    """Write the slide to `path` and return its truth."""
    layout = lay_out(spec)
    stains, overlay = _paint(spec, layout)
    levels = (1, *spec.factors)
    bands = list(_scan(spec, stains, overlay))
    image = np.concatenate(bands)
    with tifffile.TiffWriter(path, bigtiff=False) as writer:
        for number, factor in enumerate(levels):
            pixels = image if factor == 1 else _shrink(image, factor)
            writer.write(
                pixels,
                tile=(spec.tile, spec.tile),
                compression="jpeg",
                compressionargs={"level": spec.quality},
                photometric="rgb",
                description=_description(spec, image.shape, pixels.shape),
                subfiletype=0 if number == 0 else 1,
                resolution=(10000 / spec.mpp / factor,) * 2,
                resolutionunit="CENTIMETER",
                software=f"wsi-pipeline phantom {VERSION}",
                datetime=False,
                metadata=None,
            )
    return layout


def _description(spec: SlideSpec, full: tuple[int, ...], level: tuple[int, ...]) -> str:
    marker = f"{PHANTOM_MARKER} {VERSION}, no patient"
    if spec.layout == "tiff":
        return marker
    return (
        f"Aperio Image Library v11.2.1 \r\n{full[1]}x{full[0]} [0,0 {level[1]}x{level[0]}] "
        f"({spec.tile}x{spec.tile}) JPEG/RGB Q={spec.quality}|AppMag = {10 / spec.mpp:g}|MPP = {spec.mpp:g}|{marker}"
    )


def _shape(spec: SlideSpec) -> tuple[int, int]:
    return round(spec.height_mm * 1000 / FIELD_MPP), round(spec.width_mm * 1000 / FIELD_MPP)


def _silhouette(rng: np.random.Generator, organ: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Cores for needle biopsies, fragments for biopsies, one piece for excisions."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    y, x = y / shape[0], x / shape[1]
    edge = smooth_noise(rng, shape, 220) * 0.05 + smooth_noise(rng, shape, 50) * 0.012
    tissue = np.zeros(shape, bool)
    if organ in ("Prostate", "Breast"):
        count = int(rng.integers(2, 4))
        for k in range(count):
            centre = (k + 0.5 + rng.uniform(-0.08, 0.08)) / count + 0.06 * np.sin(x * rng.uniform(1, 4) + k)
            core = np.abs(y - centre) < rng.uniform(0.3, 0.36) / count + edge * 0.5
            tissue |= core & (x > rng.uniform(0.03, 0.12)) & (x < rng.uniform(0.88, 0.97))
        return tissue
    count = 1 if organ == "Lymph node" else int(rng.integers(2, 4))
    for k in range(count):
        cx, cy = (k + 0.5) / count + rng.uniform(-0.03, 0.03), rng.uniform(0.45, 0.55)
        rx, ry = rng.uniform(0.4, 0.46) / count, rng.uniform(0.38, 0.45)
        tissue |= ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1 + edge * 6
    return tissue


def _focus(
    rng: np.random.Generator, tissue: NDArray[np.bool_], radius: float, place: tuple[float, float] | None
) -> NDArray[np.bool_]:
    height, width = tissue.shape
    inner = ndimage.distance_transform_edt(tissue)
    eligible = np.argwhere(inner > min(radius * 0.6, inner.max() * 0.7))
    cy, cx = eligible[rng.integers(len(eligible))]
    if place is not None:
        cx, cy = place[0] * width, place[1] * height
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    outline = radius * (1 + 0.15 * smooth_noise(rng, tissue.shape, 200))
    return np.asarray(np.hypot(y - cy, x - cx) < outline)


def _paint(spec: SlideSpec, layout: Layout) -> tuple[Stains, Field]:
    """Stain maps of the slide, and an overlay (h, w, 3) of absorbance by ink, folds and bubbles."""
    rng = np.random.default_rng([VERSION, spec.seed, 1])
    organ = organ_named(spec.organ)
    shape = layout.tissue.shape
    stains = draw(rng, organ.benign.motif, shape)
    if layout.lesion.any():
        found = next(d for d in organ.diagnoses if d.text == spec.diagnosis)
        edge = ndimage.gaussian_filter(layout.lesion.astype(np.float32), 3)
        stains = stains.blend(draw(rng, found.motif, shape), edge)
    cover = ndimage.gaussian_filter(layout.tissue.astype(np.float32), 1)
    overlay = np.zeros((*shape, 3), np.float32)
    if spec.artefacts:
        cover = cover * _folds(rng, shape)
        overlay += _pen(rng, shape) + _bubble(rng, shape)
    return Stains(*(m * cover for m in stains.maps)), overlay


def _folds(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Thickness of the section: 1, and about 2 along a fold on a third of slides."""
    if rng.random() > 0.33:
        return np.ones(shape, np.float32)
    band = smooth_noise(rng, shape, 500) - rng.uniform(-0.5, 0.5)
    return np.asarray(1 + 1.1 * np.exp(-((band / 0.03) ** 2)), np.float32)


def _pen(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """A stroke of blue, green or black ink on a fifth of slides."""
    stroke = np.zeros((*shape, 3), np.float32)
    if rng.random() > 0.2:
        return stroke
    ink = np.array([(1.1, 0.6, 0.15), (1.0, 0.3, 0.8), (0.9, 0.9, 0.9)], np.float32)[rng.integers(3)]
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    slope, start = rng.uniform(-0.3, 0.3), rng.uniform(0.05, 0.95)
    path = start * shape[0] + slope * x + 25 * np.sin(x / rng.uniform(60, 160))
    width = rng.uniform(20, 45)
    reach = (x > rng.uniform(0, 0.5) * shape[1]) & (x < rng.uniform(0.6, 1) * shape[1])
    return np.asarray(((np.abs(y - path) < width) & reach)[..., None] * ink, np.float32)


def _bubble(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """The dark rim of an air bubble under the coverslip on a fifth of slides."""
    if rng.random() > 0.2:
        return np.zeros((*shape, 3), np.float32)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    radius = rng.uniform(30, 90)
    away = np.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])) - radius
    return np.asarray((0.35 * np.exp(-((away / 3) ** 2)))[..., None] * np.ones(3), np.float32)


_STAIN_COLOURS = np.array([[0.65, 0.704, 0.286], [0.09, 0.62, 0.27]], np.float32)
"""Absorbance of haematoxylin (Ruifrok & Johnston 2001) and a salmon eosin, per unit of concentration."""

_BAND_UM = 512


def _scan(spec: SlideSpec, stains: Stains, overlay: Field) -> Iterator[NDArray[np.uint8]]:
    """Level-0 pixels in horizontal bands: nuclei added, Beer-Lambert, sensor noise."""
    rng = np.random.default_rng([VERSION, spec.seed, 2])
    colours = _STAIN_COLOURS * rng.normal(1, 0.06, (2, 3)) * rng.uniform(0.75, 1.05, (2, 1))
    glass = rng.uniform(238, 248) + rng.normal(0, 1.5, 3)
    rows, columns = overlay.shape[:2]
    width = round(columns * FIELD_MPP / spec.mpp)
    step = round(_BAND_UM / FIELD_MPP)
    bank = _nuclei_bank(spec.mpp)
    for top in range(0, rows, step):
        stop = min(top + step, rows)
        height = round(stop * FIELD_MPP / spec.mpp) - round(top * FIELD_MPP / spec.mpp)
        haem, eosin, nuclei = (_enlarge(m[top:stop], (height, width)) for m in stains.maps)
        speckle = _tile(bank, rng, (height, width))
        # the bank is uniform on [0, 1): `nuclei` is the share of area that nuclei cover, up to 60 %
        haem += 0.85 * np.clip((speckle - (1 - 0.6 * nuclei)) * 14, 0, 1)
        eosin *= 0.9 + 0.2 * speckle
        density = haem[..., None] * colours[0] + eosin[..., None] * colours[1]
        if overlay[top:stop].any():
            ink = [_enlarge(np.ascontiguousarray(overlay[top:stop, :, c]), (height, width)) for c in range(3)]
            density += np.stack(ink, -1)
        light = glass * np.exp(np.float32(-2.302585) * density)
        yield np.clip(light + (speckle[..., None] - 0.5) * 4, 0, 255).astype(np.uint8)


def _enlarge(field: Field, size: tuple[int, int]) -> Field:
    enlarged = Image.fromarray(np.ascontiguousarray(field)).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(enlarged)


@lru_cache(maxsize=3)
def _nuclei_bank(mpp: float) -> Field:
    """A tileable map, uniform on [0, 1), whose peaks are blobs the size of nuclei (about 7 µm)."""
    rng = np.random.default_rng([VERSION, round(mpp * 1000)])
    noise = ndimage.gaussian_filter(rng.standard_normal((2048, 2048), np.float32), 2.6 / mpp, mode="wrap")
    ranks = np.empty(noise.size, np.float32)
    ranks[np.argsort(noise, axis=None)] = np.linspace(0, 1, noise.size, endpoint=False, dtype=np.float32)
    return ranks.reshape(noise.shape)


def _tile(bank: Field, rng: np.random.Generator, size: tuple[int, int]) -> Field:
    rolled = np.roll(bank, rng.integers(0, bank.shape[0], 2), (0, 1))
    repeat = (-(-size[0] // bank.shape[0]), -(-size[1] // bank.shape[1]))
    return np.tile(rolled, repeat)[: size[0], : size[1]]


def _shrink(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).reduce(factor))
