"""Hard glass: slides of known tissue as stainers, pens, dust and scanners leave them, to measure tissue detection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from workflows.phantom.drawing import artefacts
from workflows.phantom.drawing.layout import SlideSpec, lay_out
from workflows.phantom.drawing.slide import render, write_slide
from workflows.phantom.drawing.tissue import FIELD_MPP, Field, smooth_noise
from workflows.phantom.pathology import ORGANS

Mask = NDArray[np.bool_]

_SIZE_MM = (6.0, 4.6)
_SPECKS_COVER = 0.002
_DAB = (0.25, 0.55, 0.85)
"""Absorbance of brown chromogen in red, green and blue."""
_SHRUNKEN = 0.7
"""What is left of the radius of a speck where its edge is drawn in most: at least 35 µm across."""
_PALE, _STRONG = 0.35, 1.8
_GREY = 0.82


@dataclass(frozen=True)
class Glass:
    """A slide and its truth.

    Attributes:
        tissue: (h, w) at `FIELD_MPP`.
        specks: (n, 2) centres y, x of specks in the same pixels; empty where tissue comes in pieces.
    """

    tissue: Mask
    specks: NDArray[np.intp]


@dataclass(frozen=True)
class _Bench:
    """A slide on its way: its absorbance (h, w, 3) in its own pixels, and its tissue at `FIELD_MPP`."""

    rng: np.random.Generator
    density: Field
    tissue: Mask

    def on_glass(self, overlay: Field) -> Field:
        """An overlay drawn at `FIELD_MPP`, on the slide's pixels."""
        size = (self.density.shape[1], self.density.shape[0])
        planes = [np.asarray(Image.fromarray(overlay[..., c]).resize(size)) for c in range(3)]
        return np.asarray(self.density + np.stack(planes, -1))


def _pen(ink: str) -> Callable[[_Bench], Field]:
    def draw(bench: _Bench) -> Field:
        for _ in range(4):
            overlay, where = artefacts.pen(bench.rng, bench.tissue, ink)
            if where.any():
                return bench.on_glass(overlay)
        # no stroke misses the tissue: one along the edge of the glass
        where = np.zeros(bench.tissue.shape, bool)
        where[4:34, 100:-100] = True
        stroke = (where & ~bench.tissue).astype(np.float32)
        return bench.on_glass(stroke[..., None] * np.array(artefacts.INKS[ink], np.float32))

    return draw


def _dust(bench: _Bench) -> Field:
    return bench.on_glass(np.sum([artefacts.dust(bench.rng, bench.tissue)[0] for _ in range(6)], 0))


def _bubbles(bench: _Bench) -> Field:
    return bench.on_glass(np.sum([artefacts.bubble(bench.rng, bench.tissue)[0] for _ in range(4)], 0))


def _folds(bench: _Bench) -> Field:
    thickness = artefacts.fold(bench.rng, bench.tissue.shape)
    size = (bench.density.shape[1], bench.density.shape[0])
    return np.asarray(bench.density * np.asarray(Image.fromarray(thickness).resize(size))[..., None])


def _coverslip(bench: _Bench) -> Field:
    """The edge of the coverslip: a dark line with a bright one beside it, and a shade on one side."""
    height, width = bench.tissue.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away = y - height * bench.rng.uniform(0.02, 0.06) - bench.rng.uniform(-0.02, 0.02) * x
    line = 0.5 * np.exp(-((away / 2.5) ** 2)) - 0.03 * np.exp(-(((away - 7) / 3) ** 2)) + 0.03 * (away < 0)
    return bench.on_glass(np.repeat(line[..., None], 3, axis=2).astype(np.float32))


CONDITIONS: dict[str, Callable[[_Bench], Field]] = {
    "H&E": lambda bench: bench.density,
    "H&E strong": lambda bench: bench.density * np.float32(_STRONG),
    "H&E pale": lambda bench: bench.density * np.float32(_PALE),
    **{f"pen {ink}": _pen(ink) for ink in artefacts.INKS},
    "dust": _dust,
    "coverslip edge": _coverslip,
    "folds": _folds,
    "bubbles": _bubbles,
    "grey background": lambda bench: bench.density - np.log10(_GREY) * _vignette(bench),
}
"""What is done to a clean slide with tissue."""
SPECKS, BLANK = "IHC-like specks", "blank glass"


def _vignette(bench: _Bench) -> Field:
    height, width = bench.density.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    return np.asarray((1 + 0.25 * (x**2 + y**2))[..., None], np.float32)


def make_glass(path: Path, condition: str, seed: int) -> Glass:
    """Write a slide at 1 µm/px in a condition of `CONDITIONS`, `SPECKS` or `BLANK`.

    Raises:
        KeyError: no such condition.
    """
    rng = np.random.default_rng([seed, 21])
    organ = ORGANS[int(rng.integers(len(ORGANS)))].name
    spec = SlideSpec(seed, organ, (), *_SIZE_MM, distractors=False)
    layout = lay_out(spec)
    image = render(spec, layout)
    glass = np.percentile(image.reshape(-1, 3), 97, axis=0).astype(np.float32)
    density = -np.log10((image.astype(np.float32) + 1) / (glass + 1))
    specks = np.zeros((0, 2), np.intp)
    if condition in (SPECKS, BLANK):
        # glass keeps the grain of its scanner
        grain = rng.normal(0, 0.006, density.shape).astype(np.float32)
        tissue = np.zeros(layout.tissue.shape, bool)
        bench = _Bench(rng, grain, tissue)
        if condition == SPECKS:
            tissue, specks, overlay = _specks(rng, tissue)
            grain = bench.on_glass(overlay)
        density = grain
    else:
        tissue = layout.tissue
        density = CONDITIONS[condition](_Bench(rng, density, tissue))
    pixels = np.clip(10**-density * glass, 0, 255).astype(np.uint8)
    write_slide(path, spec, pixels)
    return Glass(tissue, specks)


def _specks(rng: np.random.Generator, nothing: Mask) -> tuple[Mask, NDArray[np.intp], Field]:
    """Clumps of a few cells, brown or blue, over `_SPECKS_COVER` of the glass."""
    where, shape = nothing.copy(), (nothing.shape[0], nothing.shape[1])
    centres = []
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    ragged = np.maximum(1 + 0.3 * smooth_noise(rng, shape, 30), _SHRUNKEN)
    while where.mean() < _SPECKS_COVER:
        centre = rng.uniform(20, shape[0] - 20), rng.uniform(20, shape[1] - 20)
        where |= np.hypot(y - centre[0], x - centre[1]) < rng.uniform(25, 70) / FIELD_MPP * ragged
        centres.append(centre)
    weight = ndimage.gaussian_filter(where.astype(np.float32), 0.7)[..., None]
    cells = np.clip(0.7 + 0.3 * smooth_noise(rng, shape, 12), 0.3, 1.2)[..., None]
    return where, np.array(centres).astype(np.intp), (weight * cells * np.array(_DAB, np.float32)).astype(np.float32)
