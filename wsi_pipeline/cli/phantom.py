"""`wsi-pipeline demo` and `wsi-pipeline phantom make|list|calibrate|train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from wsi_pipeline.cli.options import log_option


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), show_default=True)
@click.option("--workers", type=int, default=2, show_default=True, help="Slides tiled at the same time.")
@log_option
def demo(out: Path, workers: int, json_log: bool) -> None:
    """The main job on phantom cases, offline: make slides, then tile, encode and report them."""
    import time

    from workflows.demo import demo_cases, demo_settings
    from wsi_pipeline.cli.display import showing
    from wsi_pipeline.cli.run import run_and_print

    started = time.monotonic()
    with showing(json_log):
        cases = demo_cases(out / "slides", workers)
    if not json_log:
        click.echo(f"{len(cases)} phantom cases lie in {out / 'slides'} ({time.monotonic() - started:.1f} s)", err=True)
    sys.exit(run_and_print(cases, out, demo_settings(workers), json_log=json_log))


@click.group()
def phantom() -> None:
    """Synthetic slides of known truth, and the model trained on them."""


@phantom.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the cases.")
@click.option("--cases", type=int, default=3, show_default=True, help="How many.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first case; the others follow.")
@click.option("--slides", type=click.IntRange(1), help="Slides per part. [1 to 12, drawn]")
@click.option(
    "--parts",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="Parts per case, each another organ and a folder A, B, …",
)
@click.option("--organ", help="Of the first part: Colon, Breast, Prostate or Lymph node. [drawn]")
@click.option("--diagnosis", help="Of the first part, as `phantom list` prints it. [drawn]")
@click.option("--extent", type=click.Choice(["focal", "extensive"]), help="Of every lesion. [drawn]")
@click.option("--lesion-mm", type=float, help="Diameter of each focus. [drawn]")
@click.option(
    "--place",
    type=(click.FloatRange(0, 1), click.FloatRange(0, 1)),
    help="Centre of the first focus, fractions of width and height. [drawn]",
)
@click.option(
    "--split",
    type=click.Choice(["train", "calibration", "test"]),
    default="train",
    show_default=True,
    help="Whose seeds. Who tunes on test cases measures nothing with them.",
)
@click.option("--contrast", type=click.FloatRange(0, 1), help="From 1, obvious, to 0, as normal tissue drawn anew. [1]")
@click.option("--magnification", type=click.Choice(["10", "20", "40"]), help="Of level 0. [drawn]")
@click.option("--levels", help="Downsamples of further levels, such as 4,16; none for no pyramid. [drawn]")
@click.option("--file-layout", type=click.Choice(["svs", "tiff"]), help="[drawn]")
def make(
    out: Path,
    cases: int,
    seed: int,
    slides: int | None,
    parts: int,
    organ: str | None,
    diagnosis: str | None,
    extent: Literal["focal", "extensive"] | None,
    lesion_mm: float | None,
    place: tuple[float, float] | None,
    split: Literal["train", "calibration", "test"],
    contrast: float | None,
    magnification: str | None,
    levels: str | None,
    file_layout: str | None,
) -> None:
    """Make phantom cases: slides, manifest.csv and truth.json. The same seed makes the same bytes."""
    from workflows.phantom.drawing.cohort import draw_case, write_cases

    fixed: dict[str, object] = {
        "lesion_mm": lesion_mm,
        "place": place,
        "contrast": contrast,
        "mpp": 10 / float(magnification) if magnification else None,
        "factors": None if levels is None else _factors(levels),
        "layout": file_layout,
    }
    given = {key: value for key, value in fixed.items() if value is not None}
    try:
        drawn = [
            draw_case(seed + n, split, parts, slides=slides, organ=organ, diagnosis=diagnosis, extent=extent, **given)
            for n in range(cases)
        ]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    write_cases(out, drawn)
    for case in drawn:
        for part in case.parts:
            name = f", part {part.name}" if part.name else ""
            found = " + ".join(str(f) for f in part.findings) or part.organ.benign.text
            click.echo(f"{out / case.id}{name}: {len(part.slides)} slides; {part.organ}; {found}")


def _factors(text: str) -> tuple[int, ...]:
    try:
        return () if text == "none" else tuple(int(piece) for piece in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r}: write 4,16 or none", param_hint="--levels") from None


@phantom.command("list")
def list_() -> None:
    """Organs and diagnoses."""
    from workflows.phantom.pathology import ORGANS

    for organ in ORGANS:
        for diagnosis in organ.diagnoses:
            kind = "malignant" if diagnosis.malignant else "benign"
            click.echo(f"{organ.name}\t{diagnosis.text}\t{kind}")


@phantom.command()
@click.option("--model", default="phantom", show_default=True, help="Checkpoint to be calibrated.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to be written.")
@click.option("--parts", type=int, default=312, show_default=True, help="To read, of one to twelve slides each.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder where slides and stores stay.")
@click.option("--workers", type=int, default=2, show_default=True, help="Processes.")
@log_option
def calibrate(model: str, out: Path, parts: int, keep: Path | None, workers: int, json_log: bool) -> None:
    """Calibrate the confidence of a checkpoint on phantoms. OUT counts once it lies beside the checkpoint."""
    import tempfile
    from contextlib import nullcontext

    from workflows.phantom.measuring.confidence import calibrate as read_and_fit
    from wsi_pipeline.cli.display import showing

    if not out.absolute().parent.is_dir():
        raise click.UsageError(f"{out}: its folder does not exist")
    place = nullcontext(keep) if keep else tempfile.TemporaryDirectory(prefix="phantom-calibration-")
    with place as work, showing(json_log):
        try:
            calibration = read_and_fit(Path(work), model, parts, workers, keep is not None)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    out.write_text(calibration.model_dump_json(indent=1) + "\n")
    click.echo(calibration.model_dump_json(indent=1))


@phantom.command()
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the checkpoint."
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("phantom-pool"),
    show_default=True,
    help="Folder for slides and what was learnt, about 19 GB; kept.",
)
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that make slides.")
@click.option(
    "--recipe",
    type=click.Choice(["shipped", "cpu", "long", "quick"]),
    default="shipped",
    show_default=True,
    help="shipped: the tower on a GPU, the rest in some two hours on two cores. cpu: a smaller tower, all of it in "
    "some three hours on two cores. long: as cpu, then parts of up to 50 slides and 40,000 patches in one context, "
    "some eight minutes more on a GPU. quick: a few slides and steps; tries the steps out, learns little.",
)
@log_option
def train(out: Path, work: Path, workers: int, recipe: str, json_log: bool) -> None:
    """Train the phantom checkpoint again, with fixed seeds. A stopped run goes on."""
    import json

    from workflows.phantom.training.recipe import CPU, LONG, QUICK, Recipe
    from workflows.phantom.training.train import train as train_recipe
    from wsi_pipeline.cli.display import showing

    with showing(json_log):
        figures = train_recipe(
            work, out, {"shipped": Recipe(), "cpu": CPU, "long": LONG, "quick": QUICK}[recipe], workers
        )
    click.echo(json.dumps(figures, indent=1))
