"""Peak memory and speed of tiling a 100,000 × 80,000 pixel slide in one process.

python benchmarks/tile_memory.py [--width W] [--height H] [--levels 4,16]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import click
import machine
import numpy as np
import simplejpeg
import tifffile

from tilers.tile import tile
from workflows.phantom.slide import SlideSpec, make_slide
from wsi_pipeline.cases import Slide
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore

TILE = 256


def texture() -> np.ndarray:
    """A large piece of phantom lymph node, without glass, to cut tiles from."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.svs"
        spec = SlideSpec(1, "Lymph node", (), 3.0, 3.0, mpp=0.25, distractors=False)
        make_slide(path, spec)
        image = tifffile.imread(path, key=0)
    middle = (image.shape[0] // 2, image.shape[1] // 2)
    return image[middle[0] - 2048 : middle[0] + 2048, middle[1] - 2048 : middle[1] + 2048]


def write_slide(path: Path, width: int, height: int, factors: list[int]) -> None:
    """An Aperio-style pyramid whose tiles repeat; each level is the texture at its own scale."""
    image = texture()
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for factor in (1, *factors):
            small = image[: len(image) // factor * factor, : image.shape[1] // factor * factor]
            small = small.reshape(len(small) // factor, factor, -1, factor, 3).mean((1, 3)).astype(np.uint8)
            w, h = width // factor, height // factor
            writer.write(
                tiles(small, w, h),
                shape=(h, w, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(1, 1),
                subfiletype=0 if factor == 1 else 1,
                description=f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {w}x{h}] ({TILE}x{TILE}) "
                "JPEG/RGB Q=80|AppMag = 40|MPP = 0.25",
                metadata=None,
            )


def tiles(image: np.ndarray, width: int, height: int) -> Iterator[bytes]:
    side = max(1, min(len(image), image.shape[1]) // TILE)
    padded = np.pad(image, ((0, TILE), (0, TILE), (0, 0)), mode="wrap")
    cut = [
        [
            simplejpeg.encode_jpeg(
                np.ascontiguousarray(padded[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]),
                quality=80,
                colorsubsampling="444",
            )
            for x in range(side)
        ]
        for y in range(side)
    ]
    for y in range(-(-height // TILE)):
        for x in range(-(-width // TILE)):
            yield cut[y % side][x % side]


def tile_and_measure(path: Path, final: Path, result: object) -> None:
    started = time.monotonic()
    tile(Slide("big", path), TileSettings(), final)
    result.send((time.monotonic() - started, peak_gib()))  # type: ignore[attr-defined]


def peak_gib() -> float:
    """High-water mark of this process's memory; `ru_maxrss` would count the parent's at the fork."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


@click.command()
@click.option("--width", default=100_000, show_default=True)
@click.option("--height", default=80_000, show_default=True)
@click.option("--levels", default="4,16", show_default=True, help="Downsamples, or none.")
def main(width: int, height: int, levels: str) -> None:
    """Build, tile, print."""
    factors = [] if levels == "none" else [int(f) for f in levels.split(",")]
    with tempfile.TemporaryDirectory(prefix="tile-memory-") as folder:
        path, final = Path(folder) / "big.svs", Path(folder) / "big.zarr"
        write_slide(path, width, height, factors)
        context = get_context("spawn")
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=tile_and_measure, args=(path, final, there))
        child.start()
        seconds, peak = here.recv()
        child.join()
        count = len(PatchStore(final))
        print(machine.describe())
        print(
            f"{width:,} × {height:,} px at 0.25 µm/px, levels 1,{levels}, {path.stat().st_size / 2**20:,.0f} MiB: "
            f"{count} patches in {seconds:.0f} s ({count / seconds:.1f}/s), peak memory {peak:.2f} GiB"
        )


if __name__ == "__main__":
    main()
