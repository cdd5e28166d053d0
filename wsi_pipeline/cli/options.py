"""Options that several commands share, and the settings they become. Only what was given is passed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

if TYPE_CHECKING:
    from wsi_pipeline.cases import Case
    from wsi_pipeline.cases.location import Location
    from wsi_pipeline.settings import RunSettings

F = TypeVar("F", bound=Callable[..., Any])


def _group(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class LocationType(click.ParamType[Any]):
    """A path, or a URL that fsspec reads."""

    name = "path or url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """See `located`."""
        from wsi_pipeline.cases.location import located

        return located(value) if isinstance(value, str) else cast("Location", value)


_source_options = _group(
    click.argument("slides", required=False, type=LocationType()),
    click.option(
        "--layout", type=click.Choice(["folders", "flat"]), help="folders: a folder per case, its sub-folders are "
        "parts. flat: each slide is a case. Default: folders."),
    click.option(
        "--id-pattern", metavar="REGEX",
        help="Find the case in each path: named groups case, and optionally part, slide."),
    click.option(
        "--manifest", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV",
        help="Columns case_id, slide; optionally part, stain, mpp, tissue, procedure, context, mask. Paths are "
        "relative to SLIDES, or to the CSV."),
)  # fmt: skip

out_option = click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where everything goes."
)

tile_options = _group(
    click.option("--patch-size", type=int, help="Patch edge in pixels. [768]"),
    click.option("--resolution", "mpp", metavar="10X|MPP", help="Target: 10X, or µm per pixel. [10X = 1.0]"),
    click.option("--mpp-tolerance", type=float, help="Share it may be missed by to read unresampled pixels. [0.02]"),
    click.option(
        "--reader", type=click.Choice(["auto", "direct", "openslide", "tiffslide", "picture"]),
        help="Who decodes. [auto]"),
    click.option("--mpp", "default_mpp", type=float, help="µm per pixel for slides that state none."),
    click.option("--force-mpp", type=float, help="µm per pixel for all slides, whatever they state."),
    click.option("--allow-upsampling", is_flag=True, default=None, help="Tile slides coarser than the target."),
    click.option("--min-tissue", type=float, help="Keep patches from this tissue fraction on. [0.05]"),
    click.option("--codec", type=click.Choice(["jpeg", "zstd"]), help="Patch storage; zstd is lossless. [jpeg]"),
    click.option("--jpeg-quality", type=int, help="[90]"),
)  # fmt: skip

model_options = _group(
    click.option(
        "--model", metavar="NAME",
        help="Checkpoint folder, hub id, phantom, phantom-long, or none (measurements only). "
        "[google/medgemma-1.5-4b-it]"),
    click.option("--revision", help="Hub revision of the model."),
    click.option(
        "--native-patches", is_flag=True, default=None, help="Patches of the size the model was trained on."),
    click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), help="Arithmetic. [auto]"),
    click.option("--context-tokens", type=int, help="Longest sequence, whatever the model is made for."),
)  # fmt: skip

report_options = _group(
    click.option(
        "--plan", type=click.Choice(["auto", "windows", "joint", "groups", "mixed", "search"]),
        help="How patches share contexts. [auto]"),
    click.option("--tokens-per-patch", type=int, help="One the model was trained with; not for mixed. [largest]"),
    click.option("--fine-patches", type=int, help="Read finely by --plan mixed or search. [64]"),
    click.option("--zoom", type=click.Choice(["evidence", "novelty"]), help="Which --fine-patches. [evidence]"),
    click.option(
        "--leave-out", type=click.Choice(["blurred", "dark", "pen"]), multiple=True,
        help="Do not read such patches; may be repeated. [none]"),
    click.option("--max-patches", type=int, help="Read only this many per part. [all]"),
    click.option("--select", type=click.Choice(["random", "farthest"]), help="Which --max-patches. [random]"),
    click.option("--order", type=click.Choice(["spatial", "random"]), help="Of a slide's patches. [spatial]"),
    click.option(
        "--slide-markers/--no-slide-markers", default=None, help="Whether a sequence tells slides apart. [yes]"),
    click.option("--coordinates", is_flag=True, default=None, help="Write each patch's place, in mm, before it."),
    click.option("--max-new-tokens", type=int, help="Longest text of one generation. [512]"),
    click.option("--samples", type=int, help="Answers drawn beside each, for confidence. [as calibrated]"),
    click.option("--seed", type=int, help="Of all random choices. [0]"),
    click.option("--evidence-patches", type=int, help="Patches shown per sentence. [4]"),
    click.option("--domain", help="Where the slides come from, as a calibration of the model calls it. [none]"),
    click.option("--allow-incomplete", is_flag=True, default=None, help="Keep negative statements with slides unread."),
)  # fmt: skip

machine_options = _group(
    click.option("--workers", type=int, help="Slides tiled at the same time. [1]"),
    click.option("--batch-size", type=int, help="Patches per encoder batch. [by device]"),
    click.option("--tile-timeout", "tile_timeout_s", type=float, metavar="S", help="Per slide. [14400]"),
    click.option("--tile-memory", "tile_memory_gib", type=float, metavar="GIB", help="Per slide. [4]"),
    click.option("--dask-scheduler", metavar="ADDRESS", help="Tile on this dask cluster's workers."),
)

log_option = click.option("--json-log", is_flag=True, help="One JSON object per event on standard error.")


def settings_from(**given: Any) -> RunSettings:
    """Settings from options; what was not given keeps its default."""
    from wsi_pipeline.settings import gather

    return gather({key: value for key, value in given.items() if value is not None})


@dataclass(frozen=True)
class Source:
    """What the source options name."""

    slides: Location | None
    layout: Literal["folders", "flat"] | None
    id_pattern: str | None
    manifest: Path | None

    def cases(self, json_log: bool) -> list[Case]:
        """The cases there, and on standard error what is none.

        Raises:
            UsageError: the options fit nothing, or say two things.
        """
        from wsi_pipeline.cases import discover, read_manifest
        from wsi_pipeline.cli.display import showing
        from wsi_pipeline.errors import UsageError

        if self.manifest is not None:
            if self.layout or self.id_pattern:
                raise UsageError("--manifest", "excludes --layout and --id-pattern", "give one of them")
            return read_manifest(self.manifest, self.slides)
        if self.slides is None:
            raise UsageError("SLIDES", "is missing", "give a folder, a slide, or --manifest CSV")
        if self.layout and self.id_pattern:
            raise UsageError("--id-pattern", "excludes --layout", "give one of them")
        with showing(json_log):
            return discover(self.slides, self.layout, self.id_pattern)


def source_options(function: F) -> F:
    """The source options, handed on as one `source`."""

    @wraps(function)
    def call(
        slides: Location | None,
        layout: Literal["folders", "flat"] | None,
        id_pattern: str | None,
        manifest: Path | None,
        **rest: Any,
    ) -> Any:
        return function(source=Source(slides, layout, id_pattern, manifest), **rest)

    return _source_options(cast(F, call))


tiling_command = _group(source_options, out_option, tile_options, machine_options, log_option)
"""What a command needs that tiles."""

whole_command = _group(
    source_options, out_option, tile_options, model_options, report_options, machine_options, log_option
)
"""What a command needs that also encodes or reports."""
