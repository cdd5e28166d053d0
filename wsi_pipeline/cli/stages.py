"""The stages alone: `tile`, `encode`, `report`. They share OUT with `run`, so nothing is done twice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from wsi_pipeline.cli.options import Source, settings_from, tiling_command, whole_command


@click.command()
@tiling_command
def tile(source: Source, out: Path, json_log: bool, **given: Any) -> None:
    """Only tile: slides to patch stores."""
    _stage("tile", source, out, json_log, given)


@click.command()
@whole_command
def encode(source: Source, out: Path, json_log: bool, **given: Any) -> None:
    """Tile what is missing, then encode at the tokens per patch that the plan needs."""
    _stage("encode", source, out, json_log, given)


@click.command()
@whole_command
def report(source: Source, out: Path, json_log: bool, **given: Any) -> None:
    """Write reports; what `tile` and `encode` left in OUT is taken, and what is missing is made."""
    from wsi_pipeline.cli.run import run_and_print

    sys.exit(run_and_print(source.cases(json_log), out, settings_from(**given), json_log=json_log))


def _stage(last: Literal["tile", "encode"], source: Source, out: Path, json_log: bool, given: dict[str, Any]) -> None:
    from workflows.stages import run_stage
    from wsi_pipeline.cli.display import showing

    settings, cases = settings_from(**given), source.cases(json_log)
    with showing(json_log):
        done = run_stage(last, cases, out, settings)
    for work in done:
        for slide in work.case.slides:
            outcome, store = work.outcomes[slide.id], work.stores.get(slide.id)
            where = work.token_stores.get(slide.id, store.path if store else None)
            told = where if outcome.status == "done" else outcome.reason
            click.echo(f"{work.case.id}\t{slide.id}\t{outcome.status}\t{outcome.patches} patches\t{told}")
    failed = any(o.status == "failed" for work in done for o in work.outcomes.values())
    sys.exit(3 if failed else 0)
