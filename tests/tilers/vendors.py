"""TIFFs of vendors that only OpenSlide reads, made of what it looks for in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
_JPEG = {"compression": "jpeg", "compressionargs": {"level": 90}, "photometric": "rgb", "metadata": None}


def write_philips(path: Path, image: Pixels, mpp: float, factors: tuple[int, ...] = (2, 4)) -> Path:
    """A Philips TIFF: an XML that states the spacing of each level in mm; levels are padded to whole tiles."""
    spacings = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        f'<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
        f"&quot;{mpp * factor / 1000:.9f}&quot; &quot;{mpp * factor / 1000:.9f}&quot;</Attribute>"
        f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" Group="0x1001" Element="0x8B02" PMSVR="IUInt16">{n}'
        "</Attribute></DataObject>"
        for n, factor in enumerate((1, *factors))
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="DICOM_MANUFACTURER" Group="0x0008" Element="0x0070" PMSVR="IString">PHILIPS</Attribute>'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray"><Array>'
        '<DataObject ObjectType="DPScannedImage">'
        '<Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" PMSVR="IString">WSI</Attribute>'
        f'<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
        f"&quot;{mpp / 1000:.9f}&quot; &quot;{mpp / 1000:.9f}&quot;</Attribute>"
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" Element="0x8B01" '
        f'PMSVR="IDataObjectArray"><Array>{spacings}</Array></Attribute>'
        "</DataObject></Array></Attribute></DataObject>"
    )
    with tifffile.TiffWriter(path) as writer:
        for factor in (1, *factors):
            level = _whole_tiles(np.asarray(Image.fromarray(image).reduce(factor)), 512)
            writer.write(
                level, tile=(512, 512), subfiletype=int(factor > 1), description=text if factor == 1 else None,
                software="Philips DP v1.0", **_JPEG,
            )  # fmt: skip
    return path


def write_leica(path: Path, image: Pixels, mpp: float, factors: tuple[int, ...] = (4,), offset: int = 300) -> Path:
    """A Leica SCN: an XML that places the scan on the glass, in nm, and names the directory of each level.

    Args:
        path, image, mpp: of level 0.
        factors: of further levels.
        offset: of the scan on the glass, in pixels; the slide spans twice that and the scan.
    """
    height, width = image.shape[:2]
    nm = round(mpp * 1000)
    levels = [np.asarray(Image.fromarray(image).reduce(factor)) for factor in (1, *factors)]
    dimensions = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{n}" ifd="{n}"/>'
        for n, level in enumerate(levels)
    )
    glass = f'sizeX="{(width + 2 * offset) * nm}" sizeY="{(height + 2 * offset) * nm}"'
    text = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:0">'
        f'<collection name="c" uuid="urn:uuid:1" {glass}><image name="i" uuid="urn:uuid:2">'
        f'<pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>'
        f'<view sizeX="{width * nm}" sizeY="{height * nm}" offsetX="{offset * nm}" offsetY="{offset * nm}" '
        'spacingZ="0"/><scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>'
        "<illuminationSettings><numericalAperture>0.6</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>"
        "</image></collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for number, level in enumerate(levels):
            description = text if number == 0 else None
            per_cm = 1e4 / (mpp * image.shape[0] / level.shape[0])
            writer.write(
                level, tile=(512, 512), subfiletype=int(number > 0), description=description,
                resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", **_JPEG,
            )  # fmt: skip
    return path


def write_ventana(
    path: Path, image: Pixels, mpp: float, factors: tuple[int, ...] = (4,), tile: int = 512, overlap: int = 12
) -> Path:
    """A Ventana BIF: camera tiles that overlap, in a mosaic whose XML says by how much; levels are reduced mosaics.

    Args:
        path, image, mpp: of level 0.
        factors: of further levels.
        tile, overlap: edge of a camera tile, and the pixels it shares with the next one.
    """
    step = tile - overlap
    rows, columns = (-(-(n - overlap) // step) for n in image.shape[:2])
    missing = [(0, n * step + overlap - edge) for n, edge in zip((rows, columns), image.shape[:2], strict=True)]
    whole = np.pad(image, (*missing, (0, 0)), constant_values=255)
    starts = [[(r * step, c * step) for c in range(columns)] for r in range(rows)]
    mosaic = np.vstack([np.hstack([whole[y : y + tile, x : x + tile] for y, x in row]) for row in starts])

    def number(row: int, column: int) -> int:
        """Tiles are counted from the bottom up, every second row from the right."""
        up = rows - 1 - row
        return up * columns + (columns - 1 - column if up % 2 else column) + 1

    def joint(one: tuple[int, int], other: tuple[int, int], direction: str) -> str:
        x, y = (overlap, 0) if direction == "RIGHT" else (0, overlap)
        return (
            f'<TileJointInfo FlagJoined="1" Confidence="98" Direction="{direction}" Tile1="{number(*one)}" '
            f'Tile2="{number(*other)}" OverlapX="{x}" OverlapY="{y}"/>'
        )

    joints = "".join(joint((r, c), (r, c + 1), "RIGHT") for r in range(rows) for c in range(columns - 1))
    joints += "".join(joint((r, c), (r - 1, c), "UP") for r in range(1, rows) for c in range(columns))
    scan = f'<iScan Magnification="{10 / mpp:g}" ScanRes="{mpp:g}" Z-layers="1" Z-spacing="1"/>'
    stitched = (
        '<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" '
        f'NumRows="{rows}" NumCols="{columns}" Width="{tile}" Height="{tile}" Pos-X="0" Pos-Y="0">{joints}</ImageInfo>'
        '</SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        macro = np.full((64, 128, 3), 255, np.uint8)
        writer.write(macro, description="Label Image", extratags=[_xml(scan)], photometric="rgb", metadata=None)
        for level, factor in enumerate((1, *factors)):
            writer.write(
                np.asarray(Image.fromarray(mosaic).reduce(factor)), tile=(tile, tile),
                description=f"level={level} mag={10 / mpp / factor:g} quality=90",
                extratags=[_xml(stitched)] if level == 0 else [], **_JPEG,
            )  # fmt: skip
    return path


def _xml(text: str) -> tuple[int, int, int, bytes, bool]:
    data = text.encode()
    return 700, 1, len(data), data, True


def _whole_tiles(image: Pixels, tile: int) -> Pixels:
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % tile), (0, -width % tile), (0, 0)), constant_values=255)
