"""Tile damaged slides that have levels and count how each ended; garbage in a store is a finding.

python benchmarks/fuzz_tiling.py [--seed S] [--inputs N]

Every patch stored is compared with that of the undamaged slide, whichever reader `auto` took in the end.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
from fuzzed import count_outcomes, print_counts

from tests.conftest import tissue_image
from tests.tilers.fuzzing import Patches, patches_of, stored_of
from tests.tilers.tiffs import LAYOUTS, write_tiff


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option("--inputs", default=1000, show_default=True)
def main(seed: int, inputs: int) -> None:
    """Damage, tile, count."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        image = tissue_image(1600, 2000)
        slides = [write_tiff(folder / f"{k}.svs", image, layout, 240, factors=(4,)) for k, layout in enumerate(LAYOUTS)]

        def outcome_of(slide: Path, whole: Patches) -> str:
            return stored_of(slide, whole, slide.with_suffix(".zarr"))

        counts = count_outcomes(slides, patches_of, outcome_of, seed, inputs, folder)
    print_counts("tiling", f"{len(slides)} slides with levels", seed, time.monotonic() - started, counts)


if __name__ == "__main__":
    main()
