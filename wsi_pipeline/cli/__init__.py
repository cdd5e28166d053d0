"""The command line: parse, call, print. Commands import what they need when they run."""

from __future__ import annotations

import sys

import click

from wsi_pipeline.cli.look import doctor, inspect, status
from wsi_pipeline.cli.phantom import demo, phantom
from wsi_pipeline.cli.run import run
from wsi_pipeline.cli.stages import encode, report, tile


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="wsi-pipeline", prog_name="wsi-pipeline")
def cli() -> None:
    """Read every whole-slide image of a pathology case and draft one report for the case.

    Drafts are preliminary, for review by a pathologist. Not a medical device.
    """


for command in (run, tile, encode, report, demo, phantom, status, inspect, doctor):
    cli.add_command(command)


def main() -> None:
    """Run a command; errors a user can act on end in one line, not a traceback."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Stopped. What was published stays; run the same command to go on.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        _explain(error)


def _explain(error: Exception) -> None:
    from pydantic import ValidationError

    from wsi_pipeline.errors import PipelineError, StoreError

    if isinstance(error, PipelineError):
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1 if isinstance(error, StoreError) else 2)
    if isinstance(error, ValidationError):
        for problem in error.errors():
            place = ".".join(str(step) for step in problem["loc"])
            click.secho(f"Error: setting {place}: {problem['msg']}", fg="red", err=True)
        sys.exit(2)
    raise error
