"""Patches per second of tiling, store written, beside loops over other libraries and the decoder's own limits.

python benchmarks/tiling.py [--quick] [--edge MM] [--slide NAME …] [--method NAME …] [--repeat N] [--peers FOLDER]
    [--json]

Every row runs in a process of its own on one core, on the same patches of the same slide, but for two of ours: on all
cores, and one slide per core at once (peak memory of one, bytes of all). Limits, loops and peers are told where the
patches are before their time starts; ours and hs2p find tissue within it. The limits decode each compressed tile that
the patches touch once, at the scale wanted, and encode each patch once; they do nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import click
import machine
import numpy as np
from peers.measured import peak_gib, read_bytes
from slides import BigSlide, write_big_slide
from tiling_methods import ALL_CORES, CORES, METHODS, PATCH, Places

from tilers.survey import survey
from wsi_pipeline.cases import Slide
from wsi_pipeline.settings import TileSettings

SLIDES = (
    BigSlide("40X, 10X and 2.5X levels, 256 px tiles", 0.25, 256, (4, 16)),
    BigSlide("40X 0.2527 µm/px, no levels", 0.2527, 256, ()),
    BigSlide("20X, no levels, 240 px tiles", 0.5, 240, ()),
    BigSlide("20X 0.5022 µm/px, 4X level", 0.5022, 240, (4,)),
    BigSlide("20X, JPEG 2000", 0.5, 256, (), jpeg2000=True),
)
SIDE_BY_SIDE = f"wsi-pipeline, direct, {CORES} slides at once"
"""As `run` does with as many workers: a process and a core for each."""
COMPARED = ("limit: decode + encode", "wsi-pipeline, direct", "OpenSlide loop")
"""What ratios are made of."""


@dataclass(frozen=True)
class Row:
    """One method on one slide."""

    slide: str
    method: str
    patches: int
    seconds: float
    peak_gib: float
    read_mib: float

    @property
    def rate(self) -> float:
        """Patches per second."""
        return self.patches / self.seconds


def find_places(slide: Path) -> Places:
    """Those that tiling takes."""
    found = survey(Slide("big", slide), TileSettings(reader="openslide"))
    found.reader.close()
    return Places(found.grid.origins[found.candidates], round(found.grid.step))


def _measure(method: str, slide: Path, out: Path, places: Places, pipe: Connection, core: int, ready: Barrier) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores if "cores" in method else cores[core : core + 1])
    before = read_bytes()
    ready.wait()
    started = time.perf_counter()
    patches = METHODS[method](slide, out, places)
    pipe.send((patches, time.perf_counter() - started, peak_gib(), (read_bytes() - before) / 2**20))


PEERS = ("hs2p", "wsidata", "tiatoolbox")
"""Each a script in `benchmarks/peers`, run by the interpreter of its own virtual environment."""


def measure_peer(kind: BigSlide, peer: str, python: Path, slide: Path, places: Places, folder: Path) -> Row | str:
    """A peer on the same patches; the last line of its error where it fails."""
    out = folder / "out"
    np.save(folder / "origins.npy", places.origins)
    script = Path(__file__).parent / "peers" / f"with_{peer}.py"
    done = subprocess.run(
        [python, script, slide, folder / "origins.npy", str(places.step / PATCH * kind.mpp), out],
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )
    shutil.rmtree(out, ignore_errors=True)
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}, as the system ends what takes more memory than there is"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no output"])[-1]
    return Row(kind.name, peer, *json.loads(done.stdout.strip().splitlines()[-1]))


def measure(kind: BigSlide, method: str, at_once: int, slide: Path, places: Places, folder: Path) -> Row:
    """One method in a process of its own, or in several at the same time, each on a core and a store of its own."""
    context = get_context("spawn")
    children, pipes, outs = [], [], [folder / f"out-{n}.zarr" for n in range(at_once)]
    ready = context.Barrier(at_once)
    for core, out in enumerate(outs):
        here, there = context.Pipe(duplex=False)
        children.append(context.Process(target=_measure, args=(method, slide, out, places, there, core, ready)))
        children[-1].start()
        there.close()
        pipes.append(here)
    patches, seconds, peak, read = zip(*(pipe.recv() for pipe in pipes), strict=True)
    for child in children:
        child.join()
    for out in outs:
        shutil.rmtree(out, ignore_errors=True)
    name = SIDE_BY_SIDE if at_once > 1 else method
    return Row(kind.name, name, sum(patches), max(seconds), max(peak), sum(read))


@click.command()
@click.option("--quick", is_flag=True, help="Slides of a quarter of the area.")
@click.option("--edge", "edge_mm", default=12.0, show_default=True, help="Of a slide, in mm.")
@click.option("--slide", "names", multiple=True, type=click.Choice([s.name for s in SLIDES]), help="Only these. [all]")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice([*METHODS, SIDE_BY_SIDE]),
    help="Beside what ratios take. [all]",
)
@click.option(
    "--repeat", default=1, show_default=True, type=click.IntRange(1), help="Times all run; the fastest counts."
)
@click.option("--peers", type=click.Path(path_type=Path, exists=True), help="Folder of their virtual environments.")
@click.option("--json", "as_json", is_flag=True)
def main(
    quick: bool,
    edge_mm: float,
    names: tuple[str, ...],
    methods: tuple[str, ...],
    repeat: int,
    peers: Path | None,
    as_json: bool,
) -> None:
    """Build, measure, print."""
    edge_mm /= 1 + quick
    rows: list[Row] = []
    if not as_json:
        print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="tiling-") as name:
        for kind in (kind for kind in SLIDES if not names or kind.name in names):
            slide = Path(name) / "big.svs"
            edge = round(1000 * edge_mm / kind.mpp)
            write_big_slide(slide, kind, edge, edge)
            places = find_places(slide)
            asked = [method for method in METHODS if not methods or method in (*methods, *COMPARED)]
            jobs = [(method, 1) for method in asked]
            if CORES > 1 and (not methods or SIDE_BY_SIDE in methods):
                jobs.append(("wsi-pipeline, direct", CORES))
            # by turns, so that a busy minute does not fall on one method alone
            turns = [[measure(kind, *job, slide, places, Path(name)) for job in jobs] for _ in range(repeat)]
            some = [min(same, key=lambda row: row.seconds) for same in zip(*turns, strict=True)]
            absent = []
            for peer in PEERS:
                python = peers / peer / "bin" / "python" if peers else None
                if python is None or not python.exists():
                    absent.append(f"{peer}: not installed")
                    continue
                tries = [measure_peer(kind, peer, python, slide, places, Path(name)) for _ in range(repeat)]
                if done := [row for row in tries if isinstance(row, Row)]:
                    some.append(min(done, key=lambda row: row.seconds))
                else:
                    absent.append(f"{peer}: {tries[-1]}")
            rows += some
            if not as_json:
                _print(kind, slide, some)
            print("".join(f"  {line}\n" for line in absent), end="", file=sys.stderr if as_json else sys.stdout)
            slide.unlink()
    if as_json:
        print(json.dumps([vars(row) | {"rate": row.rate} for row in rows], indent=1))


def _print(kind: BigSlide, slide: Path, rows: list[Row]) -> None:
    rate = {row.method: row.rate for row in rows}
    print(f"\n{kind.name}: {rows[0].patches} patches, {slide.stat().st_size / 2**20:,.0f} MiB")
    print(
        f"  {'':34}{'patches/s':>10}{'× OpenSlide loop':>18}{'of decode + encode':>20}{'peak GiB':>10}{'MiB read':>10}"
    )
    for row in rows:
        print(
            f"  {row.method:34}{row.rate:>10.1f}{row.rate / rate['OpenSlide loop']:>18.2f}"
            f"{row.rate / rate['limit: decode + encode']:>20.0%}{row.peak_gib:>10.2f}{row.read_mib:>10.0f}"
        )
    direct, peers = rate["wsi-pipeline, direct"], [row for row in rows if row.method in PEERS]
    told = [f"{direct / rate['OpenSlide loop']:.1f} times the OpenSlide loop (goal 5)"]
    if peers:
        fastest = max(peers, key=lambda row: row.rate)
        told.append(f"{direct / fastest.rate:.1f} times the fastest peer, {fastest.method} (2)")
    told.append(f"{direct / rate['limit: decode + encode']:.0%} of decode + encode (80%)")
    if ALL_CORES in rate:
        told.append(f"{rate[ALL_CORES] / direct:.2f} times on {CORES} cores (1.8 on two)")
    if SIDE_BY_SIDE in rate:
        told.append(f"{rate[SIDE_BY_SIDE] / direct:.2f} times with {CORES} slides at once")
    print("  direct: " + ", ".join(told))


if __name__ == "__main__":
    main()
