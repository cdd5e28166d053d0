"""A number for how sure is shown only where a calibration holds, and below its threshold the model abstains."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporters.confidence import Calibration, find_calibration
from reporters.plan import PartPlan
from reporters.training.calibration import fit_calibration
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import CALIBRATION, PHANTOM_FOLDER, find_checkpoint

PLAN = PartPlan(strategy="joint", tokens_per_patch=4, windows=(), patches_found=9, patches_read=9)
BOUND = {"revision": "r1", "dtype": "float32", "plan": PLAN, "slides": 3, "domain": "phantom"}


def calibration(**changes: object) -> Calibration:
    known = {
        "revision": "r1", "plan": "joint", "tokens_per_patch": (1, 4), "most_slides": 4, "domain": "phantom",
        "parts": 300, "intercept": 3.0, "slope": 2.0, "threshold": 0.5,
    }  # fmt: skip
    return Calibration.model_validate(known | changes)


def test_a_likely_answer_is_told_with_its_chance() -> None:
    found = calibration().judge(-0.5, **BOUND)  # type: ignore[arg-type]
    assert found is not None
    assert found.chance == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-3)
    assert (found.abstained, found.parts) == (False, 300)


def test_below_the_threshold_it_abstains() -> None:
    found = calibration().judge(-2, **BOUND)  # type: ignore[arg-type]
    assert found is not None
    assert found.abstained


@pytest.mark.parametrize(
    "other",
    [
        {"revision": "r2"},
        {"dtype": "bfloat16"},
        {"plan": PLAN.model_copy(update={"strategy": "windows"})},
        {"plan": PLAN.model_copy(update={"tokens_per_patch": 16})},
        {"plan": PLAN.model_copy(update={"deviations": ("slides not told apart by markers",)})},
        {"domain": "our laboratory"},
        {"slides": 5},
    ],
)
def test_it_holds_for_nothing_but_what_it_was_made_for(other: dict[str, object]) -> None:
    assert calibration().judge(-0.5, **(BOUND | other)) is None  # type: ignore[arg-type]


def test_the_least_likely_answer_is_one_to_abstain_from() -> None:
    found = calibration().judge(-1e6, **BOUND)  # type: ignore[arg-type]
    assert found is not None
    assert (found.chance, found.abstained) == (0.0, True)
    assert calibration().judge(math.nan, **BOUND) is None  # type: ignore[arg-type]


@given(st.integers(0, 1000), st.floats(-1, 4), st.floats(0.3, 3))
def test_a_fit_finds_the_chances_that_made_the_answers(seed: int, intercept: float, slope: float) -> None:
    rng = np.random.default_rng(seed)
    logprobs = -rng.exponential(2, 4000)
    exact = rng.random(4000) < 1 / (1 + np.exp(-(intercept + slope * logprobs)))
    fitted = fit_calibration(
        list(logprobs),
        list(exact),
        revision="r",
        plan="joint",
        tokens_per_patch=[4, 1, 4],
        most_slides=4,
        domain="phantom",
    )
    assert fitted.tokens_per_patch == (1, 4)
    for logprob in (-0.2, -1.0, -3.0):
        truth = 1 / (1 + math.exp(-(intercept + slope * logprob)))
        assert fitted.chance(logprob) == pytest.approx(truth, abs=0.08)


def test_few_answers_make_no_calibration() -> None:
    with pytest.raises(ValueError, match="49 answers are too few"):
        fit_calibration(
            [-1.0] * 49, [True] * 49, revision="r", plan="joint", tokens_per_patch=[1], most_slides=4, domain="phantom"
        )


def test_answers_that_are_all_right_do_not_end_in_certainty() -> None:
    fitted = fit_calibration(
        [-0.1] * 60, [True] * 60, revision="r", plan="joint", tokens_per_patch=[1], most_slides=4, domain="phantom"
    )
    assert 0.9 < fitted.chance(-0.1) < 0.995


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    assert find_calibration(tmp_path) is None
    (tmp_path / CALIBRATION).write_text('{"revision": "r1"}')
    with pytest.raises(ModelError, match="no valid calibration"):
        find_calibration(tmp_path)


def test_the_calibration_beside_a_checkpoint_is_no_part_of_its_revision(tmp_path: Path) -> None:
    for file in PHANTOM_FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / CALIBRATION).unlink(missing_ok=True)
    before = find_checkpoint(str(tmp_path)).revision
    (tmp_path / CALIBRATION).write_text(calibration().model_dump_json())
    assert find_checkpoint(str(tmp_path)).revision == before == find_checkpoint("phantom").revision
