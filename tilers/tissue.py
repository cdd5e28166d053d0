"""Which part of the glass is tissue, from colour and absorbance on the overview."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

Mask = NDArray[np.bool_]

SMALLEST_UM = 25.0
"""Edge of the smallest island that is tissue, as much as a pale clump of 35 µm shows; smaller ones are dust."""
_MAX_HOLE_UM2 = 250.0 * 250.0
"""Smaller gaps inside tissue (lumina, fat) belong to it."""
_CHROMA_FLOOR, _CHROMA_CEILING = 0.035, 0.045
"""Limits of the absorbance from which tissue is tissue for sure: a speck as pale as the upper one is found beside
strong tissue."""
_RIM_UM = 24.0
"""Width of the rim that the smoothing leaves around ink."""
_DARK_BACKGROUND = 90
_BAND = 512
_TRUNCATE = 4.0
"""Standard deviations that smoothing reaches, SciPy's default."""


def is_dark_field(image: NDArray[np.uint8]) -> bool:
    """Whether the background is dark: fluorescence, not a stained section on bright glass.

    Exactly black pixels are padding beyond the scan, not background, unless there is nothing else.
    """
    brightness = image.max(axis=2)
    scanned = brightness[brightness > 0]
    return bool(np.percentile(scanned if scanned.size else brightness, 60) < _DARK_BACKGROUND)


def find_tissue(image: NDArray[np.uint8], mpp: float) -> Mask:
    """Tissue on an (H, W, 3) overview.

    Eosin and haematoxylin absorb green most; glass, dust and black pen absorb all colours alike, and
    coloured pens absorb red (blue, green pen) or leave it as the only colour. So tissue is where the
    absorbance of green exceeds the mean of all by more than a threshold found by Otsu within fixed limits, and
    beside that wherever it exceeds the lower limit: pale rims belong to what they surround.

    Args:
        image: bright-field overview.
        mpp: µm per pixel of the overview, for the smallest island and the largest hole.
    """
    mask = _reached(*_surely_and_perhaps(image, mpp))
    mask = remove_small_objects(mask, max_size=max(1, round((SMALLEST_UM / mpp) ** 2)))
    return np.asarray(remove_small_holes(mask, max_size=max(1, round(_MAX_HOLE_UM2 / mpp**2))))


def _surely_and_perhaps(image: NDArray[np.uint8], mpp: float) -> tuple[Mask, Mask]:
    """Where tissue may begin, and how far it may reach from there."""
    stain, pen = _stain_and_pen(image, max(0.5, 6.0 / mpp))
    candidates = stain[stain > 0.02]
    otsu = threshold_otsu(candidates) if candidates.size > 64 and np.ptp(candidates) > 0 else _CHROMA_CEILING
    threshold = float(np.clip(0.6 * otsu, _CHROMA_FLOOR, _CHROMA_CEILING))
    # where ink fades into glass it looks like pale tissue: tissue may reach there, but not begin there
    rim = ndimage.binary_dilation(pen, iterations=max(1, round(_RIM_UM / mpp)))
    return (stain > threshold) & ~rim, (stain > _CHROMA_FLOOR) & ~pen


def _stain_and_pen(image: NDArray[np.uint8], sigma: float) -> tuple[NDArray[np.float32], Mask]:
    """How much more green than the other colours is absorbed, and where ink is, after smoothing.

    In bands: as floats all at once, a large overview would take more memory than all else of tiling.
    """
    density_of = densities(image)
    height, width = image.shape[:2]
    stain, pen = np.empty((height, width), np.float32), np.empty((height, width), bool)
    reach = int(_TRUNCATE * sigma + 0.5)
    for top in range(0, height, _BAND):
        first, bottom = max(0, top - reach), min(height, top + _BAND)
        some = image[first : bottom + reach]
        smooth = ndimage.gaussian_filter(absorbance(some, density_of), (sigma, sigma, 0), truncate=_TRUNCATE)[
            top - first : bottom - first
        ]
        red, green, blue = smooth[..., 0], smooth[..., 1], smooth[..., 2]
        stain[top:bottom] = green - 0.5 * np.minimum(red, green) - 0.5 * np.minimum(blue, green)
        pen[top:bottom] = find_pen(smooth)
    return stain, pen


def _reached(seeds: Mask, through: Mask) -> Mask:
    """Connected pieces of `through` that hold any of `seeds`."""
    pieces, count = ndimage.label(through)
    reached = np.zeros(count + 1, bool)
    reached[pieces[seeds & through]] = True
    return np.asarray(reached[pieces])


def find_pen(density: NDArray[np.float32]) -> Mask:
    """Blue, green and red ink: one colour let through, the others absorbed more than any stain does."""
    red, green, blue = density[..., 0], density[..., 1], density[..., 2]
    cold = (red > 0.45) & (red > 1.25 * green)
    hot = (green > 0.5) & (blue > 0.85 * green) & (red < 0.25 * green)
    return np.asarray(cold | hot)


def absorbance(pixels: NDArray[np.uint8], density_of: NDArray[np.float32]) -> NDArray[np.float32]:
    """(…, 3) optical density of (…, 3) pixels, by the (256, 3) of each value of each colour."""
    return np.stack([density_of[:, c][pixels[..., c]] for c in range(3)], -1)


def densities(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(256, 3) optical density of each value of each colour against this slide's own glass, never negative."""
    bright = image.reshape(-1, 3)[image.min(axis=2).ravel() > 150]
    glass = np.percentile(bright, 95, axis=0) if len(bright) > 100 else np.full(3, 245.0)
    levels = np.maximum(np.arange(256), 1)[:, None] / np.maximum(glass, 150)
    return np.asarray(np.maximum(-np.log10(levels), 0), np.float32)
