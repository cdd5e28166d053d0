"""The stages alone: `tile`, `encode`, `report`. They share OUT with `run`, so nothing is done twice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from wsi_pipeline.cli.options import (
    cases_from,
    log_option,
    machine_options,
    model_options,
    out_option,
    report_options,
    settings_from,
    source_options,
    tile_options,
)


def _stage(
    last: Literal["tile", "encode"],
    slides: Path | None,
    out: Path,
    json_log: bool,
    source: dict[str, Any],
    given: Any,
) -> None:
    from workflows.stages import run_stage
    from wsi_pipeline.cli.display import showing

    settings = settings_from(**given)
    cases = cases_from(slides, **source)
    with showing(json_log):
        done = run_stage(last, cases, out, settings)
    for work in done:
        for slide in work.case.slides:
            outcome, store = work.outcomes[slide.id], work.stores.get(slide.id)
            where = work.token_stores.get(slide.id, store.path if store else outcome.reason)
            click.echo(f"{work.case.id}\t{slide.id}\t{outcome.status}\t{outcome.patches} patches\t{where}")
    failed = any(o.status == "failed" for work in done for o in work.outcomes.values())
    sys.exit(3 if failed else 0)


@click.command()
@source_options
@out_option
@tile_options
@machine_options
@log_option
def tile(
    slides: Path | None, layout: str | None, id_pattern: str | None, manifest: Path | None, out: Path,
    json_log: bool, **given: Any,
) -> None:  # fmt: skip
    """Only tile: slides to patch stores."""
    _stage("tile", slides, out, json_log, _source(layout, id_pattern, manifest), given)


@click.command()
@source_options
@out_option
@tile_options
@model_options
@report_options
@machine_options
@log_option
def encode(
    slides: Path | None, layout: str | None, id_pattern: str | None, manifest: Path | None, out: Path,
    json_log: bool, **given: Any,
) -> None:  # fmt: skip
    """Tile what is missing, then encode at the tokens per patch that the plan needs."""
    _stage("encode", slides, out, json_log, _source(layout, id_pattern, manifest), given)


@click.command()
@source_options
@out_option
@tile_options
@model_options
@report_options
@machine_options
@log_option
def report(
    slides: Path | None, layout: str | None, id_pattern: str | None, manifest: Path | None, out: Path,
    json_log: bool, **given: Any,
) -> None:  # fmt: skip
    """Write reports from what `tile` and `encode` left in OUT; slides need not be tiled again."""
    from wsi_pipeline.cli.run import run_and_print

    settings = settings_from(**given)
    sys.exit(run_and_print(cases_from(slides, layout, id_pattern, manifest), out, settings, 0.0, json_log))


def _source(layout: str | None, id_pattern: str | None, manifest: Path | None) -> dict[str, Any]:
    return {"layout": layout, "id_pattern": id_pattern, "manifest": manifest}
