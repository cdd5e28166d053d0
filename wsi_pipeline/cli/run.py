"""`wsi-pipeline run`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsi_pipeline.cli.options import Source, settings_from, whole_command

if TYPE_CHECKING:
    from wsi_pipeline.cases import Case
    from wsi_pipeline.settings import RunSettings
    from wsi_pipeline.store.outcome import CaseOutcome


@click.command()
@whole_command
@click.option("--retain", type=click.Choice(["reports", "tokens", "all"]), help="What stays on disk. [all]")
@click.option("--wait", "wait_s", type=float, default=0.0, metavar="S", help="For a case another process works on. [0]")
@click.option("--dry-run", is_flag=True, help="Say what would be done and how long it takes; touch nothing.")
@click.option("--max-hours", type=float, help="Refuse to start when the estimate is longer.")
def run(
    source: Source,
    out: Path,
    wait_s: float,
    dry_run: bool,
    max_hours: float | None,
    json_log: bool,
    **options: Any,
) -> None:
    """Tile, encode and report every case in SLIDES (a folder, a slide, or a URL).

    A second run does only what is missing.

    \b
    Exit codes: 0 all done · 3 reports made, some slides failed · 1 a case failed · 2 wrong usage.
    """
    settings = settings_from(**options)
    cases = source.cases(json_log)
    if dry_run or max_hours is not None:
        _estimate(cases, settings, out, max_hours, download=not dry_run)
        if dry_run:
            click.echo("Nothing was written.")
            return
    sys.exit(run_and_print(cases, out, settings, wait_s, json_log))


def _estimate(cases: list[Case], settings: RunSettings, out: Path, max_hours: float | None, download: bool) -> None:
    from workflows.estimate import describe, estimate
    from wsi_pipeline.errors import UsageError

    found = estimate(cases, settings, out, download)
    click.echo(describe(found))
    if max_hours is not None and found.hours > max_hours:
        raise UsageError(
            "--max-hours", f"{found.hours:.1f} h are estimated, {max_hours:g} h allowed", "run fewer cases"
        )


def run_and_print(
    cases: list[Case], out: Path, settings: RunSettings, wait_s: float = 0.0, json_log: bool = False
) -> int:
    """Run and sum up; return the exit code."""
    import time

    from workflows.run import exit_code, run
    from wsi_pipeline.cli.display import showing

    started = time.monotonic()
    with showing(json_log):
        outcomes = run(cases, out, settings, wait_s)
    _print_summary(outcomes, out, time.monotonic() - started)
    return exit_code(outcomes)


def _print_summary(outcomes: list[CaseOutcome], out: Path, seconds: float) -> None:
    from collections import Counter

    from wsi_pipeline.store.paths import index_page

    for outcome in outcomes:
        status = outcome.status.replace("_", " ")
        click.echo(f"{outcome.case}: {status}{f' – {outcome.reason}' if outcome.reason else ''}")
        for line in outcome.diagnoses:
            click.echo(f"    {line}")
        for slide in outcome.slides:
            if slide.status == "failed" and slide.stage != "case":
                click.secho(f"    slide {slide.slide} failed ({slide.stage}): {slide.reason}", fg="red")
        if outcome.report:
            click.echo(f"    {out / 'cases' / outcome.case / outcome.report / 'report.html'}")
    counts = Counter(outcome.status.replace("_", " ") for outcome in outcomes)
    words = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    click.echo(f"{len(outcomes)} cases in {seconds:.1f} s: {words}. All cases: {index_page(out)}")
