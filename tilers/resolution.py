"""How many µm a pixel of level 0 is, who said so, and what contradicts it."""

from __future__ import annotations

from dataclasses import dataclass

from tilers.readers.base import Reader
from wsi_pipeline.cases.location import Location
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import MICRONS_AT_10X, TileSettings

BELIEVABLE_TIFF_MPP = (0.1, 2.0)
"""Plain TIFF resolution tags are believed only here; 72 dpi would be 352.8 µm/px."""

PLAUSIBLE_MPP = (0.02, 100.0)
"""Outside this no scanner works, whoever states it."""

_ASPECT_TOLERANCE = 0.01
_POWER_TOLERANCE = 0.25


@dataclass(frozen=True)
class Resolution:
    """µm per pixel of level 0, its source, and what to tell the reader about it."""

    mpp: float
    source: str
    warnings: tuple[str, ...] = ()


def resolve(path: Location, reader: Reader, manifest_mpp: float | None, settings: TileSettings) -> Resolution:
    """Manifest > vendor fields > objective power > believable TIFF tags > `--mpp`; `--force-mpp` overrides all.

    Raises:
        SlideError: nothing usable is stated, naming the fix.
    """
    warnings: list[str] = []
    power = reader.objective_power
    if settings.force_mpp is not None:
        stated = manifest_mpp or (sum(reader.mpp_xy) / 2 if reader.mpp_xy else None)
        if stated and abs(settings.force_mpp / stated - 1) > _ASPECT_TOLERANCE:
            warnings.append(f"{stated:g} µm/px is stated; --force-mpp {settings.force_mpp:g} counts")
        return Resolution(settings.force_mpp, "--force-mpp", tuple(warnings))
    if manifest_mpp is not None:
        return Resolution(manifest_mpp, "manifest")
    if reader.mpp_xy is not None:
        x, y = reader.mpp_xy
        mpp = (x + y) / 2
        if abs(x - y) > _ASPECT_TOLERANCE * mpp:
            warnings.append(f"µm per pixel differ in x ({x:g}) and y ({y:g})")
        if power and abs(10 * MICRONS_AT_10X / power / mpp - 1) > _POWER_TOLERANCE:
            warnings.append(f"objective power {power:g}X contradicts {mpp:g} µm/px; the µm/px count")
        if PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
            return Resolution(mpp, "vendor", tuple(warnings))
        warnings.append(f"the vendor's {mpp:g} µm/px is not plausible and was not used")
    if power:
        warnings.append(f"µm per pixel taken from the objective power {power:g}X")
        return Resolution(10 * MICRONS_AT_10X / power, "objective power", tuple(warnings))
    tag = reader.tiff_mpp
    if tag is not None and BELIEVABLE_TIFF_MPP[0] <= tag <= BELIEVABLE_TIFF_MPP[1]:
        warnings.append(f"µm per pixel ({tag:g}) taken from plain TIFF resolution tags, which are often wrong")
        return Resolution(tag, "TIFF tags", tuple(warnings))
    if tag is not None:
        warnings.append(f"TIFF resolution tags say {tag:g} µm/px, which is not believed")
    if settings.default_mpp is not None:
        return Resolution(settings.default_mpp, "--mpp", tuple(warnings))
    seen = "; ".join(warnings) or "no µm per pixel, no objective power, no resolution tags"
    raise SlideError(path, f"no resolution is stated ({seen})", "add an mpp column to the manifest, or --mpp 0.25")
