"""Commands that only look: `status`, `inspect`, `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsi_pipeline.cli.options import LocationType, model_options, settings_from, tile_options

if TYPE_CHECKING:
    from wsi_pipeline.cases.location import Location


@click.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="The outcomes as JSON.")
def status(out: Path, as_json: bool) -> None:
    """How every case in OUT ended, and each slide that failed. Exit code as of `run`."""
    import json

    from workflows.run import exit_code, read_outcomes

    outcomes = read_outcomes(out)
    if as_json:
        click.echo(json.dumps([outcome.model_dump() for outcome in outcomes], indent=1))
        sys.exit(exit_code(outcomes))
    for outcome in outcomes:
        patches = sum(s.patches for s in outcome.slides)
        reason = f" – {outcome.reason}" if outcome.reason else ""
        click.echo(
            f"{outcome.case}\t{outcome.status}\t{len(outcome.slides)} slides, {patches} patches\t"
            f"{outcome.finished or '–'}{reason}"
        )
        for slide in outcome.slides:
            if slide.status != "done":
                click.echo(f"    {slide.slide}\t{slide.status}\t{slide.reason or ''}")
    sys.exit(exit_code(outcomes))


@click.command()
@click.argument("slide", type=LocationType())
@tile_options
@click.option("--preview", type=click.Path(path_type=Path, dir_okay=False), help="PNG: tissue, patches, quality.")
@click.option("--geojson", type=click.Path(path_type=Path, dir_okay=False), help="Tissue and patches for QuPath.")
@click.option("--mask", type=LocationType(), help="Where tissue is, drawn by someone else: GeoJSON or PNG.")
def inspect(slide: Location, preview: Path | None, geojson: Path | None, mask: Location | None, **given: Any) -> None:
    """What each reader sees in SLIDE, which resolution wins, and what would be tiled.

    --preview and --geojson tile the slide for that, into a temporary folder.
    """
    from workflows.inspection import inspect as look
    from workflows.inspection import show
    from wsi_pipeline.cases import Slide
    from wsi_pipeline.errors import UsageError

    for location in (slide, mask):
        if location is not None and not location.exists():
            raise UsageError(location, "does not exist", "check the path")
    settings = settings_from(**given).tile
    named = Slide(slide.stem, slide, mask=mask)
    for line in look(named, settings):
        click.echo(line)
    if preview or geojson:
        show(named, settings, preview, geojson)


@click.command()
@model_options
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Check the disk of this folder.")
def doctor(out: Path | None, **given: Any) -> None:
    """Check libraries, GPU, model access and disk. Exit code 1 when a run would fail."""
    from workflows.doctor import examine

    checks = list(examine(settings_from(**given).model, out))
    for check in checks:
        click.secho(f"{'ok ' if check.ok else 'NO '} {check.text}", fg=None if check.ok else "red")
    sys.exit(0 if all(check.ok for check in checks) else 1)
