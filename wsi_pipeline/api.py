"""The Python API: the same stages and the same OUT as the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wsi_pipeline.cases import Case, discover, read_manifest
from wsi_pipeline.errors import SlideError
from wsi_pipeline.settings import gather
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.paths import CaseFolder
from wsi_pipeline.store.tokens import TokenStore

if TYPE_CHECKING:
    from reporters.schema import Report
    from wsi_pipeline.store.outcome import CaseOutcome

Source = str | Path | Case | Sequence[Case]


def find_cases(
    slides: str | Path | None = None,
    layout: Literal["folders", "flat"] | None = None,
    id_pattern: str | None = None,
    manifest: str | Path | None = None,
) -> list[Case]:
    """The cases in a folder, a slide or a manifest.

    Raises:
        UsageError: the tree fits no layout, naming what was seen.
    """
    if manifest is not None:
        return read_manifest(Path(manifest), Path(slides) if slides else None)
    return discover(Path(slides or "."), layout, id_pattern)


def tile(slides: Source, out: str | Path, **settings: Any) -> dict[str, PatchStore]:
    """Tile every slide; patch stores by slide id. Settings are those of `TileSettings` and `MachineSettings`.

    Raises:
        SlideError: no slide could be tiled.
    """
    return _stage("tile", slides, out, settings)[0]


def encode(slides: Source, out: str | Path, **settings: Any) -> dict[str, TokenStore]:
    """Tile and encode every slide with `model=…`; token stores by slide id.

    Raises:
        ModelError: the checkpoint cannot be had.
        SlideError: no slide could be tiled.
    """
    return {slide: TokenStore(path) for slide, path in _stage("encode", slides, out, settings)[1].items()}


def run(slides: Source, out: str | Path, **settings: Any) -> list[CaseOutcome]:
    """The main job: bring every case's report up to date; how each case ended."""
    from workflows.run import run as run_cases

    return run_cases(_cases(slides), Path(out), gather(settings))


def report(slides: Source, out: str | Path, **settings: Any) -> list[Report]:
    """Like `run`, and return the newest report of every case that has one."""
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
) -> tuple[dict[str, PatchStore], dict[str, Path]]:
    from workflows.stages import run_stage

    patches: dict[str, PatchStore] = {}
    tokens: dict[str, Path] = {}
    reasons = []
    for work in run_stage(last, _cases(slides), Path(out), gather(settings)):
        patches |= work.stores
        tokens |= work.token_stores
        reasons += [f"{o.slide}: {o.reason}" for o in work.outcomes.values() if o.reason]
    if not patches:
        raise SlideError(str(slides), f"no slide could be tiled ({'; '.join(reasons)})")
    return patches, tokens


def _cases(source: Source) -> list[Case]:
    if isinstance(source, Case):
        return [source]
    if isinstance(source, str | Path):
        return discover(Path(source))
    return list(source)
