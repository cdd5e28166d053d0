"""What a case of very many patches costs, from slide files to report: time of each stage, and memory.

python benchmarks/whole_case.py [--slides N] [--patches N] [--model M]

All slides are one part. They are copies of one slide, full of phantom tissue, that differ in their description; what
the report says about them means nothing.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
import time
from pathlib import Path

import click
import machine
import numpy as np
from slides import NUMBER, BigSlide, write_big_slide

from reporters.schema import Report
from workflows.run import run
from wsi_pipeline.cases import discover
from wsi_pipeline.events import Event, listening
from wsi_pipeline.settings import gather

KIND = BigSlide("20X, 5X and 1.25X levels", 0.5, 256, (4, 16))
STEP = 1536
"""Level-0 pixels of a patch of 768 µm."""
STAGES = {"tile": "tile.slides", "encode": "encode.start", "write": "write.window"}
"""The event that begins each."""


def make_slides(folder: Path, slides: int, patches: int) -> None:
    """`slides` files of about `patches` / `slides` patches each."""
    folder.mkdir(parents=True)
    columns = round(np.sqrt(patches / slides * 1.28))
    first = folder / "S0000.svs"
    write_big_slide(first, KIND, columns * STEP, round(patches / slides / columns) * STEP)
    for number in range(1, slides):
        copy = folder / f"S{number:04d}.svs"
        shutil.copyfile(first, copy)
        with copy.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
            at = -1
            while (at := content.find(NUMBER.encode(), at + 1)) >= 0:
                digits = at + len(NUMBER)
                content[digits : digits + 4] = f"{number:04d}".encode()


@click.command()
@click.option("--slides", default=50, show_default=True)
@click.option("--patches", default=40_000, show_default=True, help="Of the case, about.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where slides and stores go; default a temporary one.")
def main(slides: int, patches: int, model: str, workers: int, folder: Path | None) -> None:
    """Make, run, print."""
    begun: dict[str, float] = {}
    peaks: list[float] = []
    memory = machine.PeakMemory()

    def listen(event: Event) -> None:
        for stage, name in STAGES.items():
            if event.name == name and stage not in begun:
                begun[stage] = time.monotonic()
                peaks.append(memory.lately())

    with tempfile.TemporaryDirectory(prefix="whole-case-", dir=folder) as name:
        make_slides(Path(name) / "slides" / "case", slides, patches)
        (case,) = discover(Path(name) / "slides", "folders")
        started = time.monotonic()
        with memory, listening(listen):
            (outcome,) = run([case], Path(name) / "out", gather({"model": model, "workers": workers}))
        ended = time.monotonic()
        peaks.append(memory.lately())
        if outcome.report is None:
            raise SystemExit(f"no report: {outcome.reason}")
        done = Path(name) / "out" / "cases" / case.id / outcome.report / "report.json"
        (part,) = Report.model_validate_json(done.read_text()).parts
        stored = sum(p.stat().st_size for p in (Path(name) / "out").rglob("*") if p.is_file())
    assert part.plan
    print(
        f"whole case: {slides} slides, {part.completeness.patches_found:,} patches, "
        f"model {machine.model(model)}, {workers} workers"
    )
    print(machine.describe())
    print(
        f"plan {part.plan.strategy}, {len(part.plan.sequences)} sequences, {part.plan.tokens_per_patch} token(s) "
        f"per patch, {part.plan.tokens:,} tokens; {part.completeness.patches_read:,} patches read"
    )
    times = [*(begun[stage] for stage in STAGES if stage in begun), ended]
    stages = [stage for stage in STAGES if stage in begun]
    for stage, start, stop, peak in zip(stages, times[:-1], times[1:], peaks[1:], strict=True):
        print(f"  {stage:8}{stop - start:8.1f} s{peak:8.2f} GiB at the most")
    print(f"  {'all':8}{ended - started:8.1f} s")
    print(f"  peak memory {memory.gib:.2f} GiB, tiling processes included; {stored / 2**30:.1f} GiB stored")


if __name__ == "__main__":
    main()
