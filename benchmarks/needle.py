"""A lesion of a few patches among very many: who finds it, who names it, and who sees one where there is none?

python benchmarks/needle.py [--seed S] [--patches N …] [--lesions K …] [--cases N] [--reader R …] [--context TOKENS]
                            [--bank FOLDER] [--json]

Slides of the test seeds go through the real tiler and encoder once; cases are composed of their patches, up to 50
slides each. Half of the cases hold no lesion: detection means nothing without its false alarms.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import click
import machine
import numpy as np

from workflows.checkpoints import Model
from workflows.phantom.needle import READERS, Reading, build_bank, compose, read
from workflows.phantom.pathology import ORGANS
from workflows.phantom.scoring import wilson
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ModelSettings


@dataclass(frozen=True)
class Row:
    """One reader on cases of one size; lesions of 0 patches are cases without."""

    patches: int
    lesion: int
    reader: str
    reading: Reading
    seconds: float


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option("--patches", "sizes", type=int, multiple=True, default=(100, 1000), show_default=True)
@click.option("--lesions", type=int, multiple=True, default=(1, 4), show_default=True, help="Patches of the lesion.")
@click.option("--cases", default=100, show_default=True, help="Per size and lesion, and as many without one.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--context", type=int, help="Tokens of a sequence at the most. [what the model was trained on]")
@click.option("--reader", "readers", multiple=True, type=click.Choice(list(READERS)), help="Only these. [all]")
@click.option("--bank", type=click.Path(path_type=Path), help="Folder where encoded slides are kept; else temporary.")
@click.option("--normal", default=40, show_default=True, help="Slides of the bank without a lesion, per organ.")
@click.option("--per-lesion", default=4, show_default=True, help="Slides of the bank per diagnosis.")
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    seed: int, sizes: tuple[int, ...], lesions: tuple[int, ...], cases: int, model: str, bank: Path | None,
    context: int | None, readers: tuple[str, ...], normal: int, per_lesion: int, workers: int, as_json: bool,
) -> None:  # fmt: skip
    """Compose, read, print."""
    loaded = Model(ModelSettings(name=model, context_tokens=context))
    with nullcontext(bank) if bank else tempfile.TemporaryDirectory(prefix="needle-") as folder:
        slides = build_bank(Path(str(folder)), loaded, 800_000, normal, per_lesion, workers)
    rows: list[Row] = []
    refused: dict[tuple[int, str], str] = {}
    for size in sizes:
        for lesion in (0, *lesions):
            for number in range(cases):
                case = compose(slides, np.random.default_rng([seed, size, lesion, number]), size, lesion)
                for reader in readers or READERS:
                    started = time.monotonic()
                    try:
                        reading = read(loaded, case, READERS[reader], number)
                    except ModelError as error:
                        refused[size, reader] = str(error)
                        continue
                    rows.append(Row(size, lesion, reader, reading, time.monotonic() - started))
                print(
                    f"\r{size} patches, lesion {lesion}: {number + 1} of {cases}", end="", file=sys.stderr, flush=True
                )
    print(file=sys.stderr)
    if as_json:
        told = [vars(row) | {"reading": vars(row.reading)} for row in rows]
        not_read = [{"patches": size, "reader": reader, "why": why} for (size, reader), why in refused.items()]
        print(json.dumps({"rows": told, "not read": not_read}, indent=1))
        return
    held = {organ.name: sum(map(len, slides.normal[organ.name])) for organ in ORGANS}
    longest = f"{context:,} tokens of context" if context else "the model's own context"
    print(f"needle: seed {seed}, model {machine.model(model)}, {longest}; bank of {held} normal patches")
    print(machine.describe())
    print(f"naming one of the organ's lesions blindly is right in {np.mean([1 / len(o.lesions) for o in ORGANS]):.2f}")
    _print(rows)
    for (size, reader), why in refused.items():
        print(f"{size:,} patches, {reader}: not read. {why}")


def _print(rows: list[Row]) -> None:
    print(
        f"{'patches':>8}{'lesion':>8}  {'reader':20}{'n':>4}{'diseased':>10}{'95 % Wilson':>14}{'exact':>8}"
        f"{'tokens':>9}{'s':>7}"
    )
    for key in dict.fromkeys((row.patches, row.lesion, row.reader) for row in rows):
        some = [row for row in rows if (row.patches, row.lesion, row.reader) == key]
        hits = sum(row.reading.diseased for row in some)
        low, high = wilson(hits, len(some))
        exact = np.mean([row.reading.exact for row in some])
        tokens, seconds = np.mean([row.reading.tokens for row in some]), np.mean([row.seconds for row in some])
        print(
            f"{key[0]:>8,}{key[1] or 'none':>8}  {key[2]:20}{len(some):>4}{hits / len(some):>10.3f}"
            f"{low:>8.3f}–{high:.3f}{exact:>8.3f}{tokens:>9,.0f}{seconds:>7.1f}"
        )


if __name__ == "__main__":
    main()
