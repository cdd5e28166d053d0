"""The Python API: the same stages and the same OUT as the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wsi_pipeline.cases import Case, discover, read_manifest
from wsi_pipeline.cases.location import Location, located
from wsi_pipeline.settings import gather
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.paths import CaseFolder
from wsi_pipeline.store.tokens import TokenStore

if TYPE_CHECKING:
    from reporters.schema import Report
    from wsi_pipeline.store.outcome import CaseOutcome

Source = str | Location | Case | Sequence[Case]
"""A folder, a slide or its URL, or cases."""


def find_cases(
    slides: str | Location | None = None,
    layout: Literal["folders", "flat"] | None = None,
    id_pattern: str | None = None,
    manifest: str | Path | None = None,
) -> list[Case]:
    """The cases in a folder, a slide (or its URL) or a manifest.

    Raises:
        UsageError: the tree fits no layout, naming what was seen.
    """
    if manifest is not None:
        return read_manifest(Path(manifest), _location(slides) if slides else None)
    return discover(_location(slides or "."), layout, id_pattern)


@dataclass(frozen=True)
class SlideResult:
    """How one slide fared, and its stores; None where there are none."""

    case: str
    slide: str
    status: str
    reason: str | None
    patches: PatchStore | None
    tokens: TokenStore | None = None


def tile(slides: Source, out: str | Path, **settings: Any) -> list[SlideResult]:
    """Tile every slide; one result per slide, failed ones included.

    Settings are those of `TileSettings` and `MachineSettings`.
    """
    return _stage("tile", slides, out, settings)


def encode(slides: Source, out: str | Path, **settings: Any) -> list[SlideResult]:
    """Tile and encode every slide with `model=…`; one result per slide, failed ones included.

    Raises:
        ModelError: the checkpoint cannot be had.
    """
    return _stage("encode", slides, out, settings)


def run(slides: Source, out: str | Path, **settings: Any) -> list[CaseOutcome]:
    """The main job: bring every case's report up to date; how each case ended."""
    from workflows.run import run as run_cases

    return run_cases(_cases(slides), Path(out), gather(settings))


def report(slides: Source, out: str | Path, **settings: Any) -> list[Report]:
    """Like `run`, and return the report of every case that ended with one this time."""
    found = []
    for outcome in run(slides, out, **settings):
        if outcome.report:
            found.append(load_report(CaseFolder(Path(out), outcome.case).path / outcome.report))
    return found


def load_report(folder: str | Path) -> Report:
    """A published report, from its folder or its `report.json`."""
    from reporters.schema import Report

    path = Path(folder)
    return Report.model_validate_json((path / "report.json" if path.is_dir() else path).read_text("utf-8"))


def _stage(
    last: Literal["tile", "encode"], slides: Source, out: str | Path, settings: dict[str, Any]
) -> list[SlideResult]:
    from workflows.stages import run_stage

    return [
        SlideResult(
            case=work.case.id,
            slide=slide.id,
            status=work.outcomes[slide.id].status,
            reason=work.outcomes[slide.id].reason,
            patches=work.stores.get(slide.id),
            tokens=TokenStore(work.token_stores[slide.id]) if slide.id in work.token_stores else None,
        )
        for work in run_stage(last, _cases(slides), Path(out), gather(settings))
        for slide in work.case.slides
    ]


def _cases(source: Source) -> list[Case]:
    if isinstance(source, Case):
        return [source]
    if isinstance(source, Sequence) and not isinstance(source, str):
        return list(source)
    return discover(_location(source))


def _location(where: str | Location) -> Location:
    return located(where) if isinstance(where, str) else where
