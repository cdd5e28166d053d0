"""Feed the direct reader damaged slides and count how each ended; anything but a clear outcome is a finding.

python benchmarks/fuzz_direct.py [--seed S] [--inputs N] [SLIDE ...]

Without slides, generated ones are damaged. What is read is compared with the pixels of the whole slide.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
from fuzzed import count_outcomes, print_counts

from tests.conftest import tissue_image
from tests.tilers.fuzzing import outcome_of, pixels_of
from tests.tilers.tiffs import LAYOUTS, write_tiff


@click.command()
@click.argument("slides", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seed", default=0, show_default=True)
@click.option("--inputs", default=10_000, show_default=True)
def main(slides: tuple[Path, ...], seed: int, inputs: int) -> None:
    """Damage, read, count."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        if not slides:
            image = tissue_image(600, 700)
            slides = tuple(write_tiff(folder / f"{k}.svs", image, layout, 240) for k, layout in enumerate(LAYOUTS))
        counts = count_outcomes(slides, pixels_of, outcome_of, seed, inputs, folder)
    print_counts("direct reader", f"{len(slides)} slides", seed, time.monotonic() - started, counts)


if __name__ == "__main__":
    main()
