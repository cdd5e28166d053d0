"""A finished run to look at, and to copy and change; slides as a writer learns from them."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import wsi_pipeline as wp
from workflows.phantom.pathology import ORGANS, Diagnosis, Organ
from workflows.phantom.training.lessons import LearntSlide
from workflows.run import run
from wsi_pipeline.settings import ModelSettings, RunSettings
from wsi_pipeline.store.outcome import CaseOutcome

PHANTOM = RunSettings(model=ModelSettings(name="phantom"))


@pytest.fixture(scope="module")
def finished(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CaseOutcome]]:
    out = tmp_path_factory.mktemp("out")
    return out, run(wp.find_cases(phantom_cases), out, PHANTOM)


@pytest.fixture
def copy(finished: tuple[Path, list[CaseOutcome]], tmp_path: Path) -> Path:
    return shutil.copytree(finished[0], tmp_path / "out", copy_function=shutil.copy2)


def everything(out: Path) -> dict[str, int]:
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


SMALL = {"width_mm": 1.6, "height_mm": 1.2}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def learnt() -> list[LearntSlide]:
    """Slides whose lesion patches are about 9 everywhere, all others about 0."""
    rng = np.random.default_rng(0)

    def slide(organ: Organ, diagnosis: Diagnosis, extensive: bool) -> LearntSlide:
        lesion = np.zeros(20, bool)
        lesion[: 6 if extensive else 2] = diagnosis != organ.benign
        rows = rng.normal(size=(20, 4, 8)).astype(np.float16) + 9 * lesion[:, None, None]
        return LearntSlide(organ, diagnosis, extensive, (rows.astype(np.float16),), lesion, lesion, ~lesion)

    return [slide(o, d, extensive) for o in ORGANS for d in o.diagnoses for extensive in (False, True)]
