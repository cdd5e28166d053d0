"""Peak memory and speed of tiling a 100,000 × 80,000 pixel slide in one process.

python benchmarks/tile_memory.py [--width W] [--height H] [--levels 4,16]
"""

from __future__ import annotations

import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import click
import machine
from peers.measured import peak_gib
from slides import BigSlide, write_big_slide

from tilers.tile import tile
from wsi_pipeline.cases import Slide
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore


def tile_and_measure(path: Path, final: Path, result: object) -> None:
    started = time.monotonic()
    tile(Slide("big", path), TileSettings(), final)
    result.send((time.monotonic() - started, peak_gib()))  # type: ignore[attr-defined]


@click.command()
@click.option("--width", default=100_000, show_default=True)
@click.option("--height", default=80_000, show_default=True)
@click.option("--levels", default="4,16", show_default=True, help="Downsamples, or none.")
def main(width: int, height: int, levels: str) -> None:
    """Build, tile, print."""
    factors = [] if levels == "none" else [int(f) for f in levels.split(",")]
    with tempfile.TemporaryDirectory(prefix="tile-memory-") as folder:
        path, final = Path(folder) / "big.svs", Path(folder) / "big.zarr"
        write_big_slide(path, BigSlide("big", 0.25, 256, tuple(factors)), width, height)
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
