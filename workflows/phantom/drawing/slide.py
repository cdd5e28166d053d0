"""One phantom slide: laid out, painted, scanned, and written into a pyramidal file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from workflows.phantom.drawing.aperio import MARKER, describe_page
from workflows.phantom.drawing.layout import Layout, SlideSpec, lay_out
from workflows.phantom.drawing.painting import Painting, paint
from workflows.phantom.drawing.scanner import draw_scanner, scan
from workflows.phantom.pathology import VERSION


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


def _description(spec: SlideSpec, full: tuple[int, ...], level: tuple[int, ...]) -> str:
    if spec.layout == "tiff":
        return MARKER
    codec = f"JPEG/RGB Q={spec.quality}"
    return describe_page((full[1], full[0]), (level[1], level[0]), spec.tile, spec.mpp, codec)
