"""What is on a slide and is no disease: folds, blood, ink, bubbles, dust, blur.

Each is drawn at random and without regard to the diagnosis, except that none but a fold covers a lesion: what
cannot be seen could not be known either.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workflows.phantom.drawing.tissue import FIELD_MPP, Field, Stains, smooth_noise

Mask = NDArray[np.bool_]
INKS = {"blue": (1.1, 0.6, 0.15), "green": (1.0, 0.3, 0.8), "black": (0.9, 0.9, 0.9), "red": (0.1, 1.0, 0.8)}
"""Absorbance of pens in red, green and blue."""
NAMES = ("fold", "blood", "pen", "bubble", "dust", "blur")
_TRIES = 6


def fold(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Thickness of the section: 1, and about 2 along a fold."""
    band = smooth_noise(rng, shape, 500) - rng.uniform(-0.5, 0.5)
    return np.asarray(1 + 1.1 * np.exp(-((band / 0.03) ** 2)), np.float32)


def blood(rng: np.random.Generator, stains: Stains, taboo: Mask) -> tuple[Stains, Mask]:
    """A pool of blood over part of the tissue: eosin without structure. Returns where it lies, too."""
    where = _apart(lambda: _blob(rng, taboo.shape, rng.uniform(120, 350)), taboo)
    if not where.any():
        return stains, where
    weight = ndimage.gaussian_filter(where.astype(np.float32), 1.5)
    clots = smooth_noise(rng, taboo.shape, 25)
    pool = Stains(
        np.full(taboo.shape, 0.03, np.float32),
        np.clip(1.15 + 0.12 * clots, 0.7, 1.6).astype(np.float32),
        np.full(taboo.shape, 0.02, np.float32),
    )
    return stains.blend(pool, weight), where


def pen(rng: np.random.Generator, taboo: Mask, ink: str | None = None) -> tuple[Field, Mask]:
    """A stroke of ink as absorbance (h, w, 3), and where it lies."""
    colour = np.array(INKS[ink or str(rng.choice(list(INKS)))], np.float32)
    height, width = taboo.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)

    def stroke() -> Mask:
        slope, start = rng.uniform(-0.3, 0.3), rng.uniform(0.05, 0.95)
        path = start * height + slope * x + 25 * np.sin(x / rng.uniform(60, 160))
        reach = (x > rng.uniform(0, 0.5) * width) & (x < rng.uniform(0.6, 1) * width)
        return np.asarray((np.abs(y - path) < rng.uniform(20, 45)) & reach)

    where = _apart(stroke, taboo)
    return where[..., None] * colour, where


def bubble(rng: np.random.Generator, taboo: Mask) -> tuple[Field, Mask]:
    """The dark rim of an air bubble under the coverslip, and where it lies."""
    height, width = taboo.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away: Field = np.zeros(taboo.shape, np.float32)

    def rim() -> Mask:
        nonlocal away
        centre = rng.uniform(0, height), rng.uniform(0, width)
        away = np.hypot(y - centre[0], x - centre[1]) - rng.uniform(30, 90)
        return np.asarray(np.abs(away) < 8)

    where = _apart(rim, taboo)
    dark = np.where(where, 0.45 * np.exp(-((away / 3) ** 2)), 0)
    return np.asarray(dark[..., None] * np.ones(3), np.float32), where


def dust(rng: np.random.Generator, taboo: Mask) -> tuple[Field, Mask]:
    """A handful of dark specks of 15 to 60 µm, and where they lie."""
    height, width = taboo.shape
    where = np.zeros(taboo.shape, bool)
    for _ in range(int(rng.integers(3, 14))):
        radius = rng.uniform(2, 7.5)
        reach = int(radius * 2) + 1
        top, left = int(rng.integers(0, max(1, height - 2 * reach))), int(rng.integers(0, max(1, width - 2 * reach)))
        y, x = np.mgrid[-reach:reach, -reach:reach].astype(np.float32)
        angle = rng.uniform(0, np.pi)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        speck = (u / 1.8) ** 2 + (v * 1.2) ** 2 < radius**2
        where[top : top + 2 * reach, left : left + 2 * reach] |= speck[: height - top, : width - left]
    where &= ~taboo
    return where[..., None] * np.full(3, rng.uniform(0.7, 1.4), np.float32), where


def blur(rng: np.random.Generator, taboo: Mask) -> Mask:
    """A region out of focus."""
    return _apart(lambda: _blob(rng, taboo.shape, rng.uniform(300, 700)), taboo)


def _blob(rng: np.random.Generator, shape: tuple[int, int], radius_um: float) -> Mask:
    radius = radius_um / FIELD_MPP
    centre = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    ragged = 1 + 0.35 * smooth_noise(rng, shape, radius_um * 0.6)
    return np.asarray(np.hypot(y - centre[0], x - centre[1]) < radius * ragged)


def _apart(draw: Callable[[], Mask], taboo: Mask) -> Mask:
    """The first of a few draws that does not touch `taboo`; nothing when all do."""
    for _ in range(_TRIES):
        where = draw()
        if not (where & taboo).any():
            return where
    return np.zeros(taboo.shape, bool)
