"""Make one phantom slide: lay out tissue and lesions, paint them, scan them into a pyramidal file."""

from __future__ import annotations

from collections.abc import Callable
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
from workflows.phantom import artefacts
from workflows.phantom.contents import REDRAWN, artefact, mimic_of
from workflows.phantom.pathology import VERSION, Motif, Organ, organ_named
from workflows.phantom.scanner import draw_scanner, scan
from workflows.phantom.tissue import FIELD_MPP, Field, Stains, Window, draw, match_light, smooth_noise, varied

PATCH_UM = 768
"""Edge of the squares that extents are counted in."""
SHOWN_FROM = 0.05
"""Share of such a square that a lesion covers where the square shows it."""
MIMICS = (0, 4)
"""Range of the number of foci that look like a lesion on a slide with distractors."""
_COARSE = 4


@dataclass(frozen=True)
class Focus:
    """One lesion on a slide.

    Attributes:
        diagnosis: its text.
        mm: diameter.
        place: centre as fractions of width and height; None lets the seed choose within the tissue.
        seed: of place and outline.
    """

    diagnosis: str
    mm: float
    place: tuple[float, float] | None = None
    seed: int = 0


@dataclass(frozen=True)
class SlideSpec:
    """Everything that determines a phantom slide, byte for byte.

    Attributes:
        seed: of all that is random on it.
        organ: its name.
        foci: lesions; none on a benign slide.
        width_mm, height_mm: the scanned area.
        contrast: how far a lesion's texture is from the benign one: 1 as drawn, 0 normal tissue drawn anew.
        distractors: benign mimics, redrawn tissue, blood, folds, ink, bubbles, dust and blur, where the seed puts them.
        mpp: µm per pixel of level 0 (1.0, 0.5, 0.25: 10X, 20X, 40X).
        shift_um: right and down by which the scan's origin differs from the layout's.
        factors: downsample of each further level.
        tile: tile edge in pixels.
        quality: JPEG quality of the file.
        layout: `svs` (Aperio header) or `tiff` (plain pyramid with resolution tags).
    """

    seed: int
    organ: str
    foci: tuple[Focus, ...] = ()
    width_mm: float = 3.8
    height_mm: float = 2.9
    contrast: float = 1.0
    distractors: bool = True
    mpp: float = 1.0
    shift_um: float = 0.0
    factors: tuple[int, ...] = (4,)
    tile: int = 256
    quality: int = 85
    layout: Literal["svs", "tiff"] = "svs"


@dataclass(frozen=True)
class Layout:
    """What lies where, as (h, w) maps at `FIELD_MPP`: the slide's truth.

    Attributes:
        tissue: whether there is any.
        lesion: number of the diagnosis within its organ; 0 where there is no lesion.
    """

    tissue: NDArray[np.bool_]
    lesion: NDArray[np.uint8]


@dataclass(frozen=True)
class Painting:
    """A slide before it is scanned; maps at `FIELD_MPP`.

    Attributes:
        stains: what is in the tissue.
        overlay: absorbance (h, w, 3) of what lies on the glass.
        blurred: where the scan is out of focus.
        content: what a place shows, as a number: 0 normal tissue, k diagnosis k of the organ, then `mimic_of(k)`,
            `REDRAWN`, and `artefact(name)`.
    """

    stains: Stains
    overlay: Field | None
    blurred: NDArray[np.bool_]
    content: NDArray[np.uint8]


def lay_out(spec: SlideSpec) -> Layout:
    """Where tissue and lesions lie."""
    tissue = _silhouette(spec.seed, spec.organ, _shape(spec))
    organ = organ_named(spec.organ)
    lesion = np.zeros(tissue.shape, np.uint8)
    for focus in spec.foci:
        rng = np.random.default_rng([VERSION, spec.seed, 3, focus.seed])
        number = organ.diagnoses.index(organ.diagnosis(focus.diagnosis))
        lesion[_focus(rng, tissue, focus.mm, focus.place) & (lesion == 0)] = number
    return Layout(tissue, lesion * tissue)


def patches_showing(layout: Layout) -> int:
    """Squares of `PATCH_UM` that show a lesion."""
    edge = round(PATCH_UM / FIELD_MPP)
    rows, columns = (-(-n // edge) for n in layout.lesion.shape)
    padded = np.zeros((rows * edge, columns * edge), bool)
    padded[: layout.lesion.shape[0], : layout.lesion.shape[1]] = layout.lesion > 0
    share = padded.reshape(rows, edge, columns, edge).mean((1, 3))
    return int((share >= SHOWN_FROM).sum())


def make_slide(path: Path, spec: SlideSpec) -> Layout:
    """Write the slide to `path` and return its truth."""
    layout = lay_out(spec)
    write_slide(path, spec, render(spec, layout))
    return layout


def write_slide(path: Path, spec: SlideSpec, image: NDArray[np.uint8]) -> None:
    """Pixels (h, w, 3) as the pyramid that the spec asks for."""
    with tifffile.TiffWriter(path, bigtiff=False) as writer:
        for number, factor in enumerate((1, *spec.factors)):
            pixels = image if factor == 1 else np.asarray(Image.fromarray(image).reduce(factor))
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


def render(spec: SlideSpec, layout: Layout) -> NDArray[np.uint8]:
    """Level-0 pixels, (h, w, 3)."""
    return scan_painting(spec, paint(spec, layout))


def scan_painting(spec: SlideSpec, painting: Painting) -> NDArray[np.uint8]:
    """Level-0 pixels, (h, w, 3)."""
    rng = np.random.default_rng([VERSION, spec.seed, 2])
    scanner = draw_scanner(rng)
    image = scan(rng, scanner, painting.stains, painting.overlay, painting.blurred, spec.mpp)
    offset = round(spec.shift_um / spec.mpp)
    return image[offset:, offset:]


def paint(spec: SlideSpec, layout: Layout, mimics: tuple[int, int] = MIMICS) -> Painting:
    """Stain the layout and put distractors on it.

    Args:
        spec, layout: of the slide.
        mimics: range of the number of foci that look like a lesion.
    """
    rng = np.random.default_rng([VERSION, spec.seed, 1])
    organ = organ_named(spec.organ)
    shape = layout.tissue.shape
    texture_seed = int(rng.integers(1 << 31))

    def texture(motif: Motif) -> Motif:
        """As this slide has it: the same variation for every motif on it."""
        return varied(np.random.default_rng(texture_seed), motif)

    benign = texture(organ.benign.motif)
    stains = draw(rng, benign, shape)
    content = np.zeros(shape, np.uint8)
    if spec.distractors:
        stains = _mimics(rng, stains, content, layout.tissue, organ, texture, mimics)
    lesions = np.random.default_rng([VERSION, spec.seed, 4])
    for number in np.unique(layout.lesion[layout.lesion > 0]):
        motif = benign.toward(texture(organ.diagnoses[number].motif), spec.contrast)
        stains = _inlay(lesions, stains, motif, layout.lesion == number, matched=True)
    cover = ndimage.gaussian_filter(layout.tissue.astype(np.float32), 1)
    overlay: Field | None = None
    blurred = np.zeros(shape, bool)
    if spec.distractors:
        taboo = ndimage.binary_dilation(layout.lesion > 0, iterations=8)
        if rng.random() < 0.3:
            thickness = artefacts.fold(rng, shape)
            cover = cover * thickness
            content[layout.tissue & (thickness > 1.3)] = artefact("fold")
        if rng.random() < 0.3:
            stains, where = artefacts.blood(rng, stains, taboo)
            cover = np.maximum(cover, where)
            content[where] = artefact("blood")
        for chance, name, kind in _ON_GLASS:
            if rng.random() < chance:
                ink, where = kind(rng, taboo)
                overlay = ink if overlay is None else overlay + ink
                content[where] = artefact(name)
        if rng.random() < 0.2:
            blurred = artefacts.blur(rng, taboo)
            content[layout.tissue & blurred] = artefact("blur")
    content = np.where(layout.lesion > 0, layout.lesion, content)
    return Painting(Stains(*(m * cover for m in stains.maps)), overlay, blurred, content)


_ON_GLASS = ((0.2, "pen", artefacts.pen), (0.2, "bubble", artefacts.bubble), (0.35, "dust", artefacts.dust))


def _mimics(
    rng: np.random.Generator,
    stains: Stains,
    content: NDArray[np.uint8],
    tissue: NDArray[np.bool_],
    organ: Organ,
    texture: Callable[[Motif], Motif],
    count: tuple[int, int],
) -> Stains:
    """Foci of benign tissue that look like something, entered into `content`.

    Each is the mimic of a lesion, or the same texture drawn anew: that has a lesion's border and nothing else of it.
    """
    options = {REDRAWN: organ.benign.motif}
    options |= {mimic_of(k): d.mimic for k, d in enumerate(organ.diagnoses) if d.mimic}
    for _ in range(int(rng.integers(*count))):
        where = _focus(rng, tissue, rng.uniform(0.5, 1.1), None) & tissue
        number = list(options)[int(rng.integers(len(options)))]
        stains = _inlay(rng, stains, texture(options[number]), where, matched=rng.random() < 0.5)
        content[where] = number
    return stains


def _inlay(
    rng: np.random.Generator, stains: Stains, motif: Motif, where: NDArray[np.bool_], *, matched: bool
) -> Stains:
    """Draw `motif` where asked, on the crop that needs it; `matched` gives it the light of what was there."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    if not len(rows):
        return stains
    margin = 12
    window: Window = (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
    before = stains.crop(window)
    weight = ndimage.gaussian_filter(where[window].astype(np.float32), 3)
    drawn = draw(rng, motif, weight.shape)
    if matched:
        drawn = match_light(drawn, before)
    after = before.blend(drawn, weight)
    changed = []
    for whole, part in zip(stains.maps, after.maps, strict=True):
        copy = whole.copy()
        copy[window] = part
        changed.append(copy)
    return Stains(*changed)


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


@lru_cache(maxsize=4)
def _silhouette(seed: int, organ: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Cores for needle biopsies, fragments for biopsies, one piece for excisions."""
    rng = np.random.default_rng([VERSION, seed, 0])
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
    rng: np.random.Generator, tissue: NDArray[np.bool_], mm: float, place: tuple[float, float] | None
) -> NDArray[np.bool_]:
    height, width = tissue.shape
    radius = mm * 1000 / FIELD_MPP / 2
    if place is not None:
        cy, cx = place[1] * height, place[0] * width
    else:
        inner = _depth(tissue)
        eligible = np.argwhere(inner > min(radius * 0.6, inner.max() * 0.7))
        cy, cx = (eligible[rng.integers(len(eligible))] + 0.5) * _COARSE
    reach = int(radius * 1.7)
    ragged = 1 + 0.15 * smooth_noise(rng, (2 * reach + 1, 2 * reach + 1), 200)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    blob = np.hypot(y, x) < radius * ragged
    where = np.zeros(tissue.shape, bool)
    top, left = round(cy) - reach, round(cx) - reach
    rows, columns = slice(max(0, top), top + len(blob)), slice(max(0, left), left + len(blob))
    there = where[rows, columns]
    there |= blob[rows.start - top :, columns.start - left :][: there.shape[0], : there.shape[1]]
    return where


def _depth(tissue: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance from the edge in pixels, of every `_COARSE`-th pixel of every `_COARSE`-th row."""
    return np.asarray(ndimage.distance_transform_edt(tissue[::_COARSE, ::_COARSE]) * _COARSE)
