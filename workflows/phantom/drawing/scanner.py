"""From stain maps to pixels: nuclei, Beer–Lambert, a scanner with its own light, sharpness and noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from workflows.phantom.drawing.tissue import (
    FIELD_MPP,
    NUCLEUS_AREA,
    NUCLEUS_HAEM,
    STAIN_COLOURS,
    Field,
    Stains,
    smooth_noise,
)
from workflows.phantom.pathology import VERSION

_BAND_UM = 128
"""Few enough rows that a band stays in the cache."""
_BANK = 2048


@dataclass(frozen=True)
class Scanner:
    """How one slide was stained and scanned.

    Attributes:
        colours: (2, 3) absorbance of its two stains.
        glass: (3,) grey levels of empty glass.
        gamma: exponent on light.
        drift: strength of slow changes of staining across the slide.
        blur_um: standard deviation of its focus, 0 for sharp.
        noise: grey levels.
    """

    colours: NDArray[np.float32]
    glass: NDArray[np.float32]
    gamma: float
    drift: float
    blur_um: float
    noise: float


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """Another laboratory, another machine."""
    colours = STAIN_COLOURS * rng.normal(1, 0.07, (2, 3)) * rng.uniform(0.7, 1.12, (2, 1))
    return Scanner(
        colours=colours.astype(np.float32),
        glass=(rng.uniform(236, 249) + rng.normal(0, 2, 3)).astype(np.float32),
        gamma=float(rng.uniform(0.88, 1.12)),
        drift=float(rng.uniform(0.04, 0.14)),
        blur_um=float(rng.uniform(1.0, 2.5)) if rng.random() < 0.35 else 0.0,
        noise=float(rng.uniform(2, 6)),
    )


def scan(
    rng: np.random.Generator,
    scanner: Scanner,
    stains: Stains,
    overlay: Field | None,
    blurred: NDArray[np.bool_],
    mpp: float,
) -> NDArray[np.uint8]:
    """Pixels of a slide.

    Args:
        rng: of nuclei and drift.
        scanner: of this slide.
        stains: maps at `FIELD_MPP`, (h, w).
        overlay: absorbance (h, w, 3) of what lies on the glass; None for nothing.
        blurred: (h, w) where the scan is out of focus.
        mpp: µm per pixel of the result.
    """
    rows, columns = stains.haem.shape
    scale = FIELD_MPP / mpp
    image = np.empty((round(rows * scale), round(columns * scale), 3), np.uint8)
    drift = 1 + scanner.drift * smooth_noise(rng, (rows, columns), 900)
    maps = [stains.haem * drift, stains.eosin * (2 - drift), stains.nuclei]
    step = round(_BAND_UM / FIELD_MPP)
    for top in range(0, rows, step):
        stop = min(top + step, rows)
        band = slice(round(top * scale), round(stop * scale))
        size = (band.stop - band.start, image.shape[1])
        speckle = _speckle(rng, mpp, size)
        haem, eosin, nuclei = (_enlarge(m[top:stop], size) for m in maps)
        # the bank is uniform on [0, 1): `nuclei` is the share of area that nuclei cover
        nuclei *= -NUCLEUS_AREA
        nuclei += 1
        cell = speckle - nuclei
        cell *= 14
        haem += np.float32(NUCLEUS_HAEM) * np.clip(cell, 0, 1, out=cell)
        eosin *= 0.9 + 0.2 * speckle
        grain = (speckle - np.float32(0.5)) * np.float32(scanner.noise)
        for c in range(3):
            dense = haem * scanner.colours[0, c]
            dense += eosin * scanner.colours[1, c]
            if overlay is not None and overlay[top:stop, :, c].any():
                dense += _enlarge(overlay[top:stop, :, c], size)
            dense *= np.float32(-2.302585 * scanner.gamma)
            np.exp(dense, out=dense)
            dense *= scanner.glass[c]
            dense += grain
            image[band, :, c] = np.clip(dense, 0, 255, out=dense)
    return _focused(image, scanner.blur_um / mpp, blurred, mpp)


def _focused(image: NDArray[np.uint8], sigma: float, blurred: NDArray[np.bool_], mpp: float) -> NDArray[np.uint8]:
    """The image as sharp as its scanner, and a region of it out of focus."""
    if sigma > 0:
        image = np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))
    if blurred.any():
        scale = FIELD_MPP / mpp
        rows, columns = (np.flatnonzero(blurred.any(axis)) for axis in (1, 0))
        y = slice(round(rows[0] * scale), round((rows[-1] + 1) * scale))
        x = slice(round(columns[0] * scale), round((columns[-1] + 1) * scale))
        region = Image.fromarray(image[y, x])
        soft = blurred[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
        mask = Image.fromarray(np.uint8(255 * ndimage.gaussian_filter(soft, 4))).resize(region.size)
        region.paste(region.filter(ImageFilter.GaussianBlur(9 / mpp)), mask=mask)
        image[y, x] = np.asarray(region)
    return image


def _enlarge(field: Field, size: tuple[int, int]) -> Field:
    enlarged = Image.fromarray(np.ascontiguousarray(field)).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(enlarged)


@lru_cache(maxsize=3)
def _nuclei_bank(mpp: float) -> Field:
    """A tileable map, uniform on [0, 1), whose peaks are blobs the size of nuclei (about 7 µm)."""
    rng = np.random.default_rng([VERSION, round(mpp * 1000)])
    noise = ndimage.gaussian_filter(rng.standard_normal((_BANK, _BANK), np.float32), 2.6 / mpp, mode="wrap")
    ranks = np.empty(noise.size, np.float32)
    ranks[np.argsort(noise, axis=None)] = np.linspace(0, 1, noise.size, endpoint=False, dtype=np.float32)
    return ranks.reshape(noise.shape)


def _speckle(rng: np.random.Generator, mpp: float, size: tuple[int, int]) -> Field:
    """A piece of the bank from a random place, wrapped around."""
    y, x = rng.integers(0, _BANK, 2)
    bank = _nuclei_bank(mpp)
    rows = bank.take(np.arange(y, y + size[0]), axis=0, mode="wrap")
    return rows.take(np.arange(x, x + size[1]), axis=1, mode="wrap")
