"""The demo: three phantom cases through the real main job, with the shipped checkpoint."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from workflows.phantom.drawing.cohort import PhantomCase, draw_case, write_cases
from wsi_pipeline.cases import Case, discover
from wsi_pipeline.settings import MachineSettings, ModelSettings, RunSettings

_CASES: tuple[dict[str, Any], ...] = (
    {"seed": 0, "slides": 4, "organ": "Colon", "diagnosis": "Adenocarcinoma, moderately differentiated"},
    {"seed": 1, "slides": 7, "organ": "Prostate", "diagnosis": "Acinar adenocarcinoma, Gleason score 4 + 4 = 8"},
    {"seed": 2, "slides": 2, "parts": 2},
)


def demo_cases(folder: Path, workers: int) -> list[Case]:
    """Make the demo's slides below `folder`, unless they are there, and return its cases."""
    drawn = [draw_case(split="demo", **fixed) for fixed in _CASES]
    if missing := [case for case in drawn if not (folder / case.id).is_dir()]:
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
            list(pool.map(_write_one, [folder] * len(missing), missing))
    return discover(folder, "folders")


def _write_one(folder: Path, case: PhantomCase) -> None:
    partial = folder / f".{case.id}"
    write_cases(partial, [case])
    (partial / case.id).rename(folder / case.id)
    for leftover in partial.iterdir():
        leftover.unlink()
    partial.rmdir()


def demo_settings(workers: int) -> RunSettings:
    """Defaults, with the shipped checkpoint."""
    return RunSettings(model=ModelSettings(name="phantom"), machine=MachineSettings(workers=workers))
