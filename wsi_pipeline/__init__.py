"""Read every whole-slide image of a pathology case and draft one report for the case.

    import wsi_pipeline as wp

    report = wp.report("slides/", out="out", model="phantom")[0]

The names below are the public API; everything heavy is imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_pipeline.api import SlideResult, encode, find_cases, load_report, report, run, tile
    from wsi_pipeline.cases import Case, Part, Slide
    from wsi_pipeline.errors import PipelineError
    from wsi_pipeline.settings import RunSettings
    from wsi_pipeline.store.patches import PatchStore
    from wsi_pipeline.store.tokens import TokenStore

_HOME = {
    "Case": "wsi_pipeline.cases",
    "Part": "wsi_pipeline.cases",
    "PatchStore": "wsi_pipeline.store.patches",
    "PipelineError": "wsi_pipeline.errors",
    "RunSettings": "wsi_pipeline.settings",
    "Slide": "wsi_pipeline.cases",
    "SlideResult": "wsi_pipeline.api",
    "TokenStore": "wsi_pipeline.store.tokens",
    "encode": "wsi_pipeline.api",
    "find_cases": "wsi_pipeline.api",
    "load_report": "wsi_pipeline.api",
    "report": "wsi_pipeline.api",
    "run": "wsi_pipeline.api",
    "tile": "wsi_pipeline.api",
}

__all__ = [
    "Case",
    "Part",
    "PatchStore",
    "PipelineError",
    "RunSettings",
    "Slide",
    "SlideResult",
    "TokenStore",
    "encode",
    "find_cases",
    "load_report",
    "report",
    "run",
    "tile",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
