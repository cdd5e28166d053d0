"""How a case and each of its slides ended: one row each, in one small file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wsi_pipeline.errors import StoreError
from wsi_pipeline.store.publish import write_text

SlideStatus = Literal["done", "no_tissue", "failed", "skipped"]
CaseStatus = Literal["done", "no_tissue", "incomplete", "failed", "skipped"]

NO_TISSUE = "no tissue found"
"""The reason of a slide that was looked at whole and is empty."""


class SlideOutcome(BaseModel):
    """How one slide ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slide: str
    status: SlideStatus
    stage: str | None = None
    """Where it failed."""
    reason: str | None = None
    patches: int = 0
    unreadable: int = 0
    """Patches whose bytes are damaged; excluded, never painted over."""
    disagreeing: int = 0
    """Of these, those that decode and show something else than the slide's overview."""
    tissue_left: float = 0.0
    """Share of its tissue that lies in no patch."""


class CaseOutcome(BaseModel):
    """How the last run of a case ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    status: CaseStatus
    reason: str | None = None
    fingerprint: str | None = None
    """Names all that the report depends on; the same value means there is nothing to do."""
    report: str | None = None
    """Folder of the newest report, relative to the case's folder."""
    diagnoses: tuple[str, ...] = ()
    """One line per part, for lists of cases."""
    slides: tuple[SlideOutcome, ...] = ()
    finished: str = ""
    seconds: float = 0.0


def read_outcome(path: Path) -> CaseOutcome | None:
    """The outcome on disk; None when there is none.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        return CaseOutcome.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise StoreError(path, f"is damaged ({type(error).__name__})", "delete it and run again") from error


def write_outcome(path: Path, outcome: CaseOutcome) -> None:
    """Replace the outcome in one step."""
    write_text(path, outcome.model_dump_json(indent=1) + "\n")
