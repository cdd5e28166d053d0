"""Draw a motif: concentration maps of the two stains and of nuclei, at a few µm per pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from workflows.phantom.pathology import Motif

Field = NDArray[np.float32]
Window = tuple[slice, slice]
FIELD_MPP = 4.0
"""µm per pixel of the maps; single nuclei are added later at the slide's own resolution."""


@dataclass(frozen=True)
class Stains:
    """Diffuse haematoxylin and eosin, and the density of nuclei, each (h, w)."""

    haem: Field
    eosin: Field
    nuclei: Field

    def blend(self, other: Stains, weight: Field) -> Stains:
        """This where `weight` is 0, `other` where it is 1."""
        mix = [a + weight * (b - a) for a, b in zip(self.maps, other.maps, strict=True)]
        return Stains(*mix)

    @property
    def maps(self) -> tuple[Field, Field, Field]:
        """The three maps in order."""
        return self.haem, self.eosin, self.nuclei

    def crop(self, window: Window) -> Stains:
        """A view of a part."""
        return Stains(*(m[window] for m in self.maps))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_um: float, aspect: float = 1.0) -> Field:
    """Gaussian noise of unit variance with features of about `scale_um`."""
    sigma = max(scale_um / FIELD_MPP, 0.5)
    # draw coarse, then stretch: as smooth, and a hundred times cheaper than a wide filter
    step = max(1.0, sigma / 2)
    small = (max(4, int(shape[0] / step) + 4), max(4, int(shape[1] / (step * aspect)) + 4))
    noise = ndimage.gaussian_filter(rng.standard_normal(small, np.float32), 2.0 if step > 1 else sigma)
    noise = np.asarray(Image.fromarray(noise).resize(shape[::-1], Image.Resampling.BILINEAR))
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-6), np.float32)


STAIN_COLOURS = np.array([[0.65, 0.704, 0.286], [0.09, 0.62, 0.27]], np.float32)
"""Absorbance of haematoxylin (Ruifrok & Johnston 2001) and a salmon eosin, per unit of concentration."""
NUCLEUS_HAEM = 0.85
"""Haematoxylin that a nucleus adds."""
NUCLEUS_AREA = 0.6
"""Share of the area that nuclei cover where their density is 1."""


def varied(rng: np.random.Generator, motif: Motif) -> Motif:
    """The motif as one slide has it: sizes, irregularity and densities differ a little from slide to slide."""
    size = rng.uniform(0.93, 1.07)
    return replace(
        motif,
        spacing=motif.spacing * size,
        outer=motif.outer * size * rng.uniform(0.96, 1.04),
        lumen=motif.lumen * size * rng.uniform(0.94, 1.06),
        wobble=motif.wobble * rng.uniform(0.8, 1.25),
        fibre=motif.fibre * rng.uniform(0.7, 1.4),
        stroma_nuclei=motif.stroma_nuclei * rng.uniform(0.85, 1.15),
        wall_nuclei=min(motif.wall_nuclei * rng.uniform(0.9, 1.1), 1.0),
    )


_LIGHT_UM, _ROUNDS = 20.0, 6
"""Light is matched in means over this length, so many times: nothing slower than some 80 µm is left of a texture."""
_KEPT_UM = 60.0
"""Of the tissue that was there before, what is slower than this stays."""
_FAINT = 0.05
"""Stain that there is everywhere, so that it can be made stronger."""


def match_light(stains: Stains, target: Stains) -> Stains:
    """Stain a texture anew until, a little out of focus, as much light goes through it as through `target`.

    What is left to tell the two apart is what a thumbnail cannot resolve. Red is governed by haematoxylin, green by
    both, so the two are scaled in turn, everywhere by as much as is needed there.
    """
    red, green = (_slow_density(target, channel, _KEPT_UM) for channel in (0, 1))
    matched = Stains(np.maximum(stains.haem, _FAINT), np.maximum(stains.eosin, _FAINT), stains.nuclei)
    for _ in range(_ROUNDS):
        haem = _needed(red, matched, 0)
        nuclei = np.minimum(matched.nuclei * haem, 1)
        matched = Stains(np.clip(matched.haem * haem, _LEAST, _STRONGEST), matched.eosin, nuclei)
        eosin = _needed(green, matched, 1)
        matched = Stains(matched.haem, np.clip(matched.eosin * eosin, _LEAST, _STRONGEST), matched.nuclei)
    return matched


_LEAST, _STRONGEST = np.float32(0.001), np.float32(3)


def _needed(wanted: Field, stains: Stains, channel: int) -> Field:
    """Times which a stain is needed for the wanted absorbance, at most four times more or less."""
    ratio = np.clip(wanted / _slow_density(stains, channel, _LIGHT_UM), 0.25, 4)
    return np.asarray(Image.fromarray(ratio).resize(stains.haem.shape[::-1], Image.Resampling.BILINEAR))


def _slow_density(stains: Stains, channel: int, over_um: float) -> Field:
    """Absorbance in red (0) or green (1) of the mean light over so many µm, on every second pixel.

    Nuclei are taken as a share of each map pixel.
    """
    by_haem, by_eosin = (float(colour[channel]) for colour in STAIN_COLOURS)
    density = stains.haem * np.float32(-np.log(10) * by_haem)
    density += stains.eosin * np.float32(-np.log(10) * by_eosin)
    light = np.exp(density, out=density)
    light *= 1 - stains.nuclei * np.float32(NUCLEUS_AREA * (1 - 10 ** (-NUCLEUS_HAEM * by_haem)))
    coarse = np.asarray(Image.fromarray(light).reduce(2))
    slow = ndimage.gaussian_filter(coarse, over_um / FIELD_MPP / 2, mode="reflect", truncate=3)
    return np.asarray(np.maximum(-np.log10(np.minimum(slow, 1)), 0.002), np.float32)


def draw(rng: np.random.Generator, motif: Motif, shape: tuple[int, int]) -> Stains:
    """The stain maps of `motif` over an (h, w) area."""
    distance = _structures(rng, motif, shape)
    wall = _ramp(motif.outer - distance, 4.0)
    lumen = _ramp(motif.lumen - distance, 4.0) if motif.lumen > 0 else np.zeros(shape, np.float32)
    fibre = smooth_noise(rng, shape, 10, aspect=5.0) * motif.fibre
    cloud = smooth_noise(rng, shape, 60)
    eosin: Field = np.clip(motif.stroma_eosin * (1 + 0.5 * fibre + 0.1 * cloud), 0, None).astype(np.float32)
    haem: Field = np.full(shape, motif.stroma_haem, np.float32)
    nuclei: Field = np.full(shape, motif.stroma_nuclei, np.float32)
    if motif.infiltrate:
        level = np.quantile(cloud, 1 - motif.infiltrate)
        nuclei = nuclei + (0.95 - nuclei) * _ramp((cloud - level) * 20, 5.0)
    if motif.files:
        phase = distance / 14 + 2.5 * smooth_noise(rng, shape, 90)
        nuclei = nuclei + motif.files * 0.8 * np.clip(np.cos(phase) * 1.6 - 0.6, 0, 1).astype(np.float32)
    if motif.fat:
        eosin, haem, nuclei = _add_fat(rng, motif.fat, eosin, haem, nuclei)
    eosin = eosin + wall * (motif.wall_eosin - eosin)
    haem = haem + wall * (motif.wall_haem - haem)
    nuclei = nuclei + wall * (motif.wall_nuclei - nuclei)
    eosin = eosin + lumen * (motif.lumen_eosin - eosin)
    haem = haem * (1 - lumen)
    nuclei = nuclei + lumen * (motif.lumen_nuclei - nuclei)
    return Stains(*(np.clip(m, 0, 2).astype(np.float32) for m in (haem, eosin, nuclei)))


def _structures(rng: np.random.Generator, motif: Motif, shape: tuple[int, int]) -> Field:
    """µm from the nearest structure's centre, irregular by `wobble`, stretched along a drifting direction."""
    step = motif.spacing / FIELD_MPP
    stretch = motif.stretch**0.5
    height, width = shape
    rows = np.arange(-step, height + step, step / stretch)
    columns = np.arange(-step, width + step, step * stretch)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * step * stretch / 2
    y = y + rng.normal(0, 0.16 * step / stretch, y.shape)
    x = x + rng.normal(0, 0.16 * step * stretch, x.shape)
    seeds = np.ones(shape, bool)
    yi, xi = np.rint(y).astype(int).ravel(), np.rint(x).astype(int).ravel()
    inside = (yi >= 0) & (yi < height) & (xi >= 0) & (xi < width)
    seeds[yi[inside], xi[inside]] = False
    seeds[0, 0] = False
    distance = ndimage.distance_transform_edt(seeds, sampling=(stretch, 1 / stretch)) * FIELD_MPP
    texture = smooth_noise(rng, shape, max(12.0, motif.outer / 3))
    return np.asarray(distance * (1 + motif.wobble * 0.5 * texture), np.float32)


def _add_fat(
    rng: np.random.Generator, fraction: float, eosin: Field, haem: Field, nuclei: Field
) -> tuple[Field, Field, Field]:
    lobes = smooth_noise(rng, eosin.shape, 140)
    weight = _ramp((lobes - np.quantile(lobes, 1 - fraction)) * 60, 10.0)
    cells = _structures(rng, Motif(spacing=64, outer=0, lumen=0, wobble=0.1), eosin.shape)
    membrane: Field = np.clip((cells - 27) / 8, 0, 1).astype(np.float32)
    return (
        eosin + weight * (0.5 * membrane - eosin),
        haem * (1 - weight),
        nuclei + weight * (0.06 * membrane - nuclei),
    )


def _ramp(signed_um: Field, width_um: float) -> Field:
    return np.asarray(np.clip(signed_um / width_um + 0.5, 0, 1), np.float32)
