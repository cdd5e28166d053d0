"""Tiled TIFFs whose compressed tiles are made here, so that every layout of them can be."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Pixels = NDArray[np.uint8]
Encode = Callable[[Pixels], bytes]


def jpeg(subsampling: str, quality: int = 85) -> Encode:
    """YCbCr, as scanners store it."""
    return lambda tile: simplejpeg.encode_jpeg(
        np.ascontiguousarray(tile), quality=quality, colorsubsampling=subsampling
    )


def jpeg_rgb(tile: Pixels) -> bytes:
    """RGB without a colour transform."""
    return bytes(imagecodecs.jpeg8_encode(tile, level=85, colorspace="RGB", outcolorspace="RGB"))


def jpeg2000(tile: Pixels) -> bytes:
    """A bare codestream, as Aperio stores it."""
    return bytes(imagecodecs.jpeg2k_encode(tile, level=60, codecformat="J2K", mct=False))


def jpeg2000_ycbcr(tile: Pixels) -> bytes:
    """A bare codestream whose components are YCbCr, which only the TIFF says."""
    return jpeg2000(np.asarray(Image.fromarray(tile).convert("YCbCr")))


SUBSAMPLED_TILES = {
    "4:2:2": base64.b64decode(
        "/0//UQAvAAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAADBwEBBwIBBwIB/1IADAAAAAEABQQEAAH/XAATQEBISFBI"
        "SFBISFBISFBISFD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAAFFAAH/k8PmCAHQDtHD5gQD"
        "N8fSDAJFV8HzBIPmCQfSEAsugxkA8BN/A63D+ICAw+MZD4xcPjFgEYxa03BirAeizQr4FKNpuMnyWkYxQhQMm9TvYSCM7cu2LYCA"
        "weYh8RsACdBh16DiYe7ThPjr0oh1Ba0k9ZWUGlO+QvAkeuEJL2xGjaoNx85EzLSDMliYIyLnKP8TgIDD1FD4a8Bv16Bbwxg8ofN8"
        "V6G75t0+/EqmOm0MnuwINn7AAov92ih0Ch45kmTHkkyfDOxck79/EgMjzaCnTH4ZOZOvfOec2/sJD7OaL6hPSkb/Oq+mhG2AgMO0"
        "cF0YuHaPX/nNKck05PKuBL2lZ6Cs7Tj/Ph7OLKID1Mfu/Kacu6kV78UufvffLRlNX6gL6DVnHFjMbSkv4osj9SbRZD+l3OUky4CA"
        "/9k="
    ),
    "4:2:0": base64.b64decode(
        "/0//UQAvAAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAADBwEBBwICBwIC/1IADAAAAAEABQQEAAH/XAATQEBISFBI"
        "SFBISFBISFBISFD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAAFDAAH/k8PmCAHQDtHB8AIA"
        "x9IIAs/B8wSD5gkH0hALLoMZAPATfwOtw/iAgMPjGQ+MXD4xYBGMWtNwYqwHos0K+BSjabjJ8lpGMUIUDJvU72EgjO3Lti2AgMHm"
        "IfEbAAnQYdeg4mHu04T469KIdQWtJPWVlBpTvkLwJHrhCS9sRo2qDcfORMy0gzJYmCMi5yj/E4CAw9RQ+GvAb9egW8MYPKHzfFeh"
        "u+bdPvxKpjptDJ7sCDZ+wAKL/doodAoeOZJkx5JMnwzsXJO/fxIDI82gp0x+GTmTr3znnNv7CQ+zmi+oT0pG/zqvpoRtgIDDtHBd"
        "GLh2j1/5zSnJNOTyrgS9pWegrO04/z4eziyiA9TH7vymnLupFe/FLn733y0ZTV+oC+g1ZxxYzG0pL+KLI/Um0WQ/pdzlJMuAgP/Z"
    ),
}
"""64 × 64 pixels of tissue in YCbCr, made by OpenJPEG's `opj_compress -F 64,64,3,8,u@1x1:2x1:2x1 -r 28 -mct 0`."""


LAYOUTS: dict[str, tuple[Encode, int, int, bool]] = {
    "ycbcr 4:4:4": (jpeg("444"), 7, 6, False),
    "ycbcr 4:2:2": (jpeg("422"), 7, 6, False),
    "ycbcr 4:2:0": (jpeg("420"), 7, 6, False),
    "ycbcr, shared tables": (jpeg("420"), 7, 6, True),
    "rgb": (jpeg_rgb, 7, 2, False),
    "rgb, shared tables": (jpeg_rgb, 7, 2, True),
    "jpeg 2000 rgb": (jpeg2000, 33005, 2, False),
    "jpeg 2000 ycbcr": (jpeg2000_ycbcr, 33003, 2, False),
}
"""Encoder, TIFF compression, photometric, and whether tables are shared."""


def write_tiff(
    path: Path,
    image: Pixels,
    layout: str,
    tile: int = 256,
    factors: tuple[int, ...] = (),
    mpp: float = 0.5,
    absent: tuple[int, ...] = (),
    absent_from: int = 1,
    big: bool = False,
    encode: Encode | None = None,
) -> Path:
    """An Aperio pyramid of `image`; tiles in `absent` of the level of factor `absent_from` have no bytes.

    `encode` may stand in for the layout's.
    """
    usual, compression, photometric, shared = LAYOUTS[layout]
    encode = encode or usual
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for factor in (1, *factors):
            height, width = image.shape[0] // factor, image.shape[1] // factor  # rounded down, as Aperio does
            level = np.asarray(Image.fromarray(image).reduce(factor))[:height, :width]
            tables, tiles = _encoded(level, tile, encode, shared, absent if factor == absent_from else ())
            writer.write(
                iter(tiles),
                shape=level.shape,
                dtype=np.uint8,
                tile=(tile, tile),
                compression=compression,
                photometric=photometric,
                # else tifffile calls every JPEG YCbCr
                compressionargs={"outcolorspace": photometric} if compression == 7 else None,
                subsampling=_subsampling(layout) if photometric == 6 else None,
                jpegtables=tables,
                subfiletype=0,
                description=f"Aperio Image Library v11.2.1 \r\n{image.shape[1]}x{image.shape[0]} "
                f"[0,0 {width}x{height}] ({tile}x{tile}) |AppMag = {10 / mpp:g}|MPP = {mpp:g}",
                metadata=None,
            )  # fmt: skip
            if factor == 1:  # the second page of an Aperio slide is no level
                thumbnail = np.asarray(Image.fromarray(image).resize((128, 96)))
                writer.write(thumbnail, photometric="rgb", rowsperstrip=16, metadata=None)
    return path


def _subsampling(layout: str) -> tuple[int, int]:
    return {"ycbcr 4:4:4": (1, 1), "ycbcr 4:2:2": (2, 1)}.get(layout, (2, 2))


def _encoded(
    image: Pixels, tile: int, encode: Encode, shared: bool, absent: tuple[int, ...]
) -> tuple[bytes | None, list[bytes]]:
    streams: list[bytes] = []
    tables = None
    for number, piece in enumerate(_pieces(image, tile)):
        stream = encode(piece)
        if shared:
            tables, stream = split(stream)
        streams.append(b"" if number in absent else stream)
    return tables, streams


def _pieces(image: Pixels, tile: int) -> Iterator[Pixels]:
    padded = np.pad(image, ((0, -image.shape[0] % tile), (0, -image.shape[1] % tile), (0, 0)), mode="edge")
    for y in range(0, padded.shape[0], tile):
        for x in range(0, padded.shape[1], tile):
            yield padded[y : y + tile, x : x + tile]


def split(stream: bytes) -> tuple[bytes, bytes]:
    """A JPEG as tables (DQT, DHT) and the abbreviated rest."""
    tables, rest, at = b"", b"", 2
    while stream[at + 1] != 0xDA:
        length = 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        segment = stream[at : at + length]
        if stream[at + 1] in (0xDB, 0xC4):
            tables += segment
        else:
            rest += segment
        at += length
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + stream[at:]


def replace_tile(path: Path, page: int, number: int, by: int) -> None:
    """Give a tile the bytes of another one: it decodes, and shows what lies elsewhere."""
    with tifffile.TiffFile(path) as file:
        offsets, counts = file.pages[page].tags["TileOffsets"], file.pages[page].tags["TileByteCounts"]
        places, sizes = list(offsets.value), list(counts.value)
    places[number], sizes[number] = places[by], sizes[by]
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[page].tags["TileOffsets"].overwrite(places)
        file.pages[page].tags["TileByteCounts"].overwrite(sizes)


def detailed_image(height: int, width: int) -> np.ndarray:
    """Structures of a few pixels, as nuclei at 20X are, on pink."""
    rng = np.random.default_rng(3)
    noise = ndimage.gaussian_filter(rng.standard_normal((height, width)).astype(np.float32), 2)
    dark = np.clip(noise / noise.std(), -2, 2)[..., None] * np.array([22, 25, 20], np.float32)
    return np.uint8(np.array([180, 130, 175]) + dark)
