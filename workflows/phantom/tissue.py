"""Draw a motif: concentration maps of the two stains and of nuclei, at a few µm per pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
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
    noise = ndimage.zoom(noise, (shape[0] / small[0], shape[1] / small[1]), order=1, grid_mode=True, mode="nearest")
    noise = noise[: shape[0], : shape[1]]
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


def flatten(stains: Stains, share: float = 0.8, sigma_um: float = 30.0) -> Stains:
    """Take most of what a thumbnail could see out of a texture: variation slower than a few dozen µm."""
    flat = []
    for m in stains.maps:
        slow = ndimage.gaussian_filter(m, sigma_um / FIELD_MPP, mode="reflect")
        flat.append(np.clip(m - share * (slow - slow.mean()), 0, None).astype(np.float32))
    return Stains(flat[0], flat[1], np.minimum(flat[2], 1))


def match_colour(stains: Stains, target: Stains, inside: Field) -> Stains:
    """Scale haematoxylin and eosin until the mean light through `inside` is that of `target`.

    What is left to tell the two apart is texture. Red is governed by haematoxylin, green by both, so the two
    scales are found in turn.
    """
    wanted = _mean_light(target, inside)
    haem = eosin = 1.0
    for _ in range(6):
        found = _mean_light(_scaled(stains, haem, eosin), inside)
        haem = float(np.clip(haem * np.log(wanted[0]) / np.log(found[0]), 0.3, 3))
        found = _mean_light(_scaled(stains, haem, eosin), inside)
        eosin = float(np.clip(eosin * np.log(wanted[1]) / np.log(found[1]), 0.3, 3))
    return _scaled(stains, haem, eosin)


def _scaled(stains: Stains, haem: float, eosin: float) -> Stains:
    return Stains(stains.haem * haem, stains.eosin * eosin, np.minimum(stains.nuclei * haem, 1).astype(np.float32))


def _mean_light(stains: Stains, inside: Field) -> tuple[float, float]:
    """Mean transmitted red and green over `inside`, nuclei taken as a share of each map pixel."""
    haem, eosin, nuclei = (m[::3, ::3] for m in stains.maps)
    weight = inside[::3, ::3]
    share = NUCLEUS_AREA * nuclei
    light = []
    for channel in (0, 1):
        by_haem, by_eosin = (float(colour[channel]) for colour in STAIN_COLOURS)
        stroma = np.power(10, -(haem * by_haem + eosin * by_eosin))
        mixed = stroma * (1 - share * (1 - 10 ** (-NUCLEUS_HAEM * by_haem)))
        light.append(float((mixed * weight).sum() / max(weight.sum(), 1e-6)))
    return min(light[0], 0.999), min(light[1], 0.999)


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
