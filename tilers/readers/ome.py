"""The physical pixel size that an OME-TIFF states in its XML, which neither slide library reads."""

from __future__ import annotations

from xml.etree import ElementTree

from tilers.readers.base import number

_MICRONS = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
"""By unit; OME's default is µm."""


def ome_mpp(description: object) -> tuple[float, float] | None:
    """µm per pixel in x and y of the first image, from a TIFF's image description; None where it states none.

    Source: OME-XML schema 2016-06, `Pixels/@PhysicalSizeX`, `@PhysicalSizeXUnit`.
    """
    text = str(description or "")
    # a document type could define entities without end; OME has none
    if "<OME" not in text or "<!DOCTYPE" in text:
        return None
    try:
        root = ElementTree.fromstring(text.encode())  # noqa: S314 entities are ruled out above
    except ElementTree.ParseError:
        return None
    pixels = root.find("{*}Image/{*}Pixels")
    if pixels is None:
        return None
    x, y = (_microns(pixels, f"PhysicalSize{axis}") for axis in "XY")
    return (x, y) if x and y else None


def _microns(pixels: ElementTree.Element, name: str) -> float | None:
    size, unit = number(pixels.get(name)), _MICRONS.get(pixels.get(f"{name}Unit", "µm"))
    return size * unit if size and unit else None
