"""Feed the direct reader damaged slides and count how each ended; anything but a clear outcome is a finding.

python benchmarks/fuzz_direct.py [--seed S] [--inputs N] [SLIDE ...]

Without slides, generated ones are damaged. What is read is compared with the pixels of the whole slide. Every hundred
inputs run in a child process, so that a crash of a decoder is counted and not suffered.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import click
import machine
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.conftest import tissue_image
from tests.tilers.fuzzing import Windows, mutate, outcome_of, pixels_of
from tests.tilers.tiffs import LAYOUTS, write_tiff

_BATCH = 100
_STALLED_S = 120


def _run(seeds: range, originals: list[tuple[bytes, Windows]], folder: Path, pipe: Connection) -> None:
    for seed in seeds:
        data, pixels = originals[seed % len(originals)]
        path = folder / f"{seed}.svs"
        path.write_bytes(mutate(np.random.default_rng(seed), data))
        pipe.send(outcome_of(path, pixels))
        path.unlink()


@click.command()
@click.argument("slides", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seed", default=0, show_default=True)
@click.option("--inputs", default=10_000, show_default=True)
def main(slides: tuple[Path, ...], seed: int, inputs: int) -> None:
    """Damage, read, count."""
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        if not slides:
            image = tissue_image(600, 700)
            slides = tuple(write_tiff(folder / f"{k}.svs", image, layout, 240) for k, layout in enumerate(LAYOUTS))
        originals = [(slide.read_bytes(), pixels_of(slide)) for slide in slides]
        for first in range(seed, seed + inputs, _BATCH):
            here, there = get_context("fork").Pipe(duplex=False)
            seeds = range(first, min(first + _BATCH, seed + inputs))
            child = get_context("fork").Process(target=_run, args=(seeds, originals, folder, there))
            child.start()
            there.close()
            for number in seeds:
                if not here.poll(_STALLED_S):
                    counts[f"STALLED at seed {number}"] += 1
                    break
                try:
                    counts[here.recv()] += 1
                except EOFError:
                    counts[f"CRASHED at seed {number}"] += 1
                    break
            child.kill()
            child.join()
    print(f"direct reader, {sum(counts.values())} damaged inputs of {len(originals)} slides, seed {seed}, "
          f"{time.monotonic() - started:.0f} s")  # fmt: skip
    print(machine.describe())
    for what, number in counts.most_common():
        print(f"  {number:>7}  {what}")


if __name__ == "__main__":
    main()
