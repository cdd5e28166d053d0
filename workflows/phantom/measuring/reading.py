"""Phantom slides through `run` to their report, and the stores that it rests on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reporters.schema import Report
from workflows.phantom.drawing.cohort import PhantomCase, write_cases
from workflows.run import run
from wsi_pipeline.cases import Case, Part, discover
from wsi_pipeline.settings import RunSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.paths import CaseFolder
from wsi_pipeline.store.tokens import TokenStore


@dataclass(frozen=True)
class ReadCase:
    """A case that was run.

    Attributes:
        case: as found.
        folder: where its artefacts lie.
        report: None where there is none.
    """

    case: Case
    folder: Path
    report: Report | None

    def stores(self, part: Part) -> tuple[dict[str, PatchStore], dict[str, TokenStore]]:
        """Patches of a part's slides, and tokens of those that have any, as the report names them."""
        assert self.report
        named = self.report.provenance.stores
        at = {s.id: self.folder / "slides" / s.id for s in part.slides}
        patches = {slide: PatchStore(folder / named[f"{slide}/patches"]) for slide, folder in at.items()}
        tokens = {slide: TokenStore(at[slide] / name) for slide in at if (name := named.get(f"{slide}/tokens"))}
        return patches, tokens


@contextmanager
def written_case(work: Path, truth: PhantomCase, keep: bool = False) -> Iterator[Path]:
    """A folder below `work` for `read_case`, with slides of this very drawing of a case; deleted after unless kept."""
    folder = work / f"{truth.id}-{truth.fingerprint}"
    write_cases(folder / "slides", [truth])
    yield folder
    if not keep:
        shutil.rmtree(folder)


def read_case(folder: Path, settings: RunSettings) -> ReadCase:
    """Run the one case below `folder`/slides; what comes of it goes to `folder`/out."""
    (case,) = discover(folder / "slides", "folders")
    (outcome,) = run([case], folder / "out", settings)
    place = CaseFolder(folder / "out", case.id).path
    if outcome.report is None:
        return ReadCase(case, place, None)
    return ReadCase(case, place, Report.model_validate_json((place / outcome.report / "report.json").read_text()))
