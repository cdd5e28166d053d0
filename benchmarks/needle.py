"""A lesion of a few patches among very many: who finds it, who names it, and who sees one where there is none?

python benchmarks/needle.py [--seed S] [--bank-seed S] [--patches N …] [--lesions K …] [--cases N] [--from-files N]
                            [--plans R …] [--context TOKENS] [--bank FOLDER] [--json]

Slides of the test seeds go through the real tiler and encoder once; cases are composed of their patches, up to 50
slides each. As many cases as of every lesion size hold none: detection means nothing without its false alarms. Cases
share slides of the bank, and large ones hold some of them more than once: `distinct` patches are told, and intervals
hold for other compositions of the same bank. Some cases are also put together as slide files from the same patches and
run.
"""

from __future__ import annotations

import itertools
import json
import pickle
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import click
import machine
import numpy as np
from banks import BankOptions, bank_command

from workflows.checkpoints import Model
from workflows.phantom.measuring.haystack import Bank, compose, least_on_a_slide
from workflows.phantom.measuring.needle import EVERY, READERS, Reading, read, read_from_files
from workflows.phantom.measuring.processes import single_core_processes
from workflows.phantom.measuring.scoring import wilson
from workflows.phantom.pathology import ORGANS
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ModelSettings

_BANK = "bank.pkl"


@dataclass(frozen=True)
class Row:
    """One reader on cases of one size; lesions of 0 patches are cases without."""

    patches: int
    lesion: int
    distinct: int
    reader: str
    reading: Reading
    seconds: float


@dataclass(frozen=True)
class FromFiles:
    """A case read from slide files, too."""

    patches: int
    lesion: int
    reading: Reading
    same: bool
    seconds: float


@dataclass(frozen=True)
class Composing:
    """What all cases of a run share.

    Attributes:
        settings: of the model.
        work: folder that holds the bank, and slide files while they are read.
        seed: of what is composed.
        readers: by their names.
        from_files: how many cases of each kind are read from slide files, too.
    """

    settings: ModelSettings
    work: Path
    seed: int
    readers: tuple[str, ...]
    from_files: int


@cache
def _at_hand(composing: Composing) -> tuple[Model, Bank]:
    return Model(composing.settings), pickle.loads((composing.work / _BANK).read_bytes())


def _read_one(
    composing: Composing, asked: tuple[int, int, int]
) -> tuple[list[Row], list[FromFiles], dict[tuple[int, str], str]]:
    """One case by every reader; what refused it says why."""
    size, lesion, number = asked
    model, bank = _at_hand(composing)
    random = np.random.default_rng([composing.seed, size, lesion, number])
    case = compose(bank, random, ORGANS[number % len(ORGANS)], size, lesion)
    rows: list[Row] = []
    refused = {}
    for reader in composing.readers:
        started = time.monotonic()
        try:
            reading = read(model, case, READERS[reader], number)
        except ModelError as error:
            refused[size, reader] = str(error)
            continue
        rows.append(Row(size, lesion, case.distinct, reader, reading, time.monotonic() - started))
    if number >= composing.from_files:
        return rows, [], refused
    with tempfile.TemporaryDirectory(prefix="needle-files-", dir=composing.work) as work:
        started = time.monotonic()
        reading = read_from_files(composing.settings, case, bank, Path(work))
        seconds = time.monotonic() - started
    every = next((row.reading for row in rows if row.reader == EVERY), None) or read(
        model, case, READERS[EVERY], number
    )
    return rows, [FromFiles(size, lesion, reading, reading.said == every.said, seconds)], refused


@click.command()
@click.option("--seed", default=0, show_default=True, help="Of what is composed.")
@click.option("--patches", "sizes", type=int, multiple=True, default=(100, 1000), show_default=True)
@click.option(
    "--lesions", type=int, multiple=True, default=(1, 4, 16), show_default=True, help="Patches of the lesion."
)
@click.option("--cases", default=100, show_default=True, help="Per size and lesion, and as many without one.")
@click.option("--from-files", default=0, show_default=True, help="Of these so many are read from slide files, too.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--context", type=int, help="Tokens of a sequence at the most. [what the model is made for]")
@click.option("--plans", "readers", multiple=True, type=click.Choice(list(READERS)), help="Only these. [all]")
@bank_command
@click.option("--json", "as_json", is_flag=True)
def main(
    seed: int, sizes: tuple[int, ...], lesions: tuple[int, ...], cases: int, from_files: int, model: str,
    context: int | None, readers: tuple[str, ...], bank: BankOptions, as_json: bool,
) -> None:  # fmt: skip
    """Compose, read, print."""
    for size, lesion in itertools.product(sizes, lesions):
        if least_on_a_slide(size) < lesion:
            raise click.BadParameter(f"a slide of {size} patches in all has no room for a lesion of {lesion}")
    settings = ModelSettings(name=model, context_tokens=context)
    rows: list[Row] = []
    files: list[FromFiles] = []
    refused: dict[tuple[int, str], str] = {}
    with bank.built(Model(settings)) as (slides, _), tempfile.TemporaryDirectory(prefix="needle-") as work, \
            single_core_processes(bank.workers) as processes:  # fmt: skip
        composing = Composing(settings, Path(work), seed, readers or tuple(READERS), from_files)
        (composing.work / _BANK).write_bytes(pickle.dumps(slides))
        asked = list(itertools.product(sizes, (0, *lesions), range(cases)))
        for done, (some, from_file, why) in enumerate(processes.map(partial(_read_one, composing), asked), 1):
            rows += some
            files += from_file
            refused |= why
            print(f"\r{done} of {len(asked)} cases", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if as_json:
        told = [vars(row) | {"reading": vars(row.reading)} for row in (*rows, *files)]
        not_read = [{"patches": size, "reader": reader, "why": why} for (size, reader), why in refused.items()]
        print(json.dumps({"rows": told, "not read": not_read}, indent=1))
        return
    held = {organ.name: sum(map(len, slides.normal[organ.name])) for organ in ORGANS}
    longest = f"{context:,} tokens of context" if context else "the model's own context"
    print(f"needle: seed {seed}, model {machine.model(model)}, {longest}")
    print(f"bank of seed {bank.bank_seed}: {held} normal patches")
    print(f"{machine.describe()}; {bank.workers} cases at a time, a core each")
    print(f"naming one of the organ's lesions blindly is right in {np.mean([1 / len(o.lesions) for o in ORGANS]):.2f}")
    _print(rows)
    for (size, reader), why in refused.items():
        print(f"{size:,} patches, {reader}: not read. {why}")
    for size in dict.fromkeys(f.patches for f in files):
        some = [f for f in files if f.patches == size]
        same, exact = sum(f.same for f in some), sum(f.reading.exact for f in some)
        print(
            f"{size:,} patches from slide files to report: {same} of {len(some)} say the same as from composed tokens, "
            f"{exact} exact, {np.mean([f.seconds for f in some]):.0f} s each"
        )


def _print(rows: list[Row]) -> None:
    print(
        f"{'':30}  {'':16}{'':4}{'':24}{'on its':>8}{'false':>8}\n"
        f"{'patches':>8}{'distinct':>10}{'lesion':>8}  {'reader':20}{'n':>4}{'diseased':>10}{'95 % Wilson':>14}"
        f"{'slide':>8}{'slides':>8}{'exact':>8}{'95 % Wilson':>14}{'tokens':>9}{'reading s':>11}{'in all':>8}"
        f"{'KV MiB':>8}"
    )
    for key in dict.fromkeys((row.patches, row.lesion, row.reader) for row in rows):
        some = [row for row in rows if (row.patches, row.lesion, row.reader) == key]
        hits = sum(row.reading.diseased for row in some)
        low, high = wilson(hits, len(some))
        exact = sum(row.reading.exact for row in some)
        least, most = wilson(exact, len(some))
        slide = np.mean([row.reading.on_its_slide for row in some])
        false = np.mean([row.reading.false_slides for row in some])
        distinct = np.mean([row.distinct for row in some])
        tokens, seconds = np.mean([row.reading.tokens for row in some]), np.mean([row.seconds for row in some])
        prefill = np.mean([row.reading.prefill_s or 0.0 for row in some])
        memory = max(row.reading.memory_mib or 0.0 for row in some)
        print(
            f"{key[0]:>8,}{distinct:>10,.0f}{key[1] or 'none':>8}  {key[2]:20}{len(some):>4}{hits / len(some):>10.3f}"
            f"{low:>8.3f}–{high:.3f}{slide:>8.3f}{false:>8.2f}{exact / len(some):>8.3f}{least:>8.3f}–{most:.3f}"
            f"{tokens:>9,.0f}{prefill:>11.2f}{seconds:>8.1f}{memory:>8.1f}"
        )


if __name__ == "__main__":
    main()
