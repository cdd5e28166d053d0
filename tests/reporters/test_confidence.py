"""A number for how sure is shown only where a calibration holds, and below its threshold the model abstains."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reporters.confidence import Calibration, Circumstances, Signs, find_calibration
from reporters.training.calibration import fit_calibration
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import CALIBRATION, PHANTOM_FOLDER, find_checkpoint

NOW = Circumstances(revision="r1", signs=2, dtype="float32", tiling=11, plan="joint", samples=4, domain="phantom")
SURE, UNSURE = Signs(-0.02, 1.0, points=True), Signs(-1.5, 0.25, points=False)


def calibration(**changes: object) -> Calibration:
    known = {
        "made_for": NOW, "tokens_per_patch": (1, 4), "most_slides": 4, "parts": 300, "intercept": 0.0,
        "weights": (-0.5, 1.0, 0.3), "threshold": 0.5,
    }  # fmt: skip
    return Calibration.model_validate(known | changes)


def test_an_answer_is_told_with_its_chance() -> None:
    found = calibration().judge(SURE, NOW, 4, 3)
    assert found is not None
    assert found.chance == pytest.approx(1 / (1 + 0.0201**0.5 / np.exp(0.3)), abs=1e-3)
    assert (found.abstained, found.parts, found.domain) == (False, 300, "phantom")


def test_below_the_threshold_it_abstains() -> None:
    found = calibration().judge(UNSURE, NOW, 4, 3)
    assert found is not None
    assert found.abstained


@pytest.mark.parametrize(
    "other",
    [
        {"revision": "r2"}, {"signs": 1}, {"dtype": "bfloat16"}, {"tiling": 12}, {"plan": "windows"}, {"samples": 8},
        {"deviations": ("slides not told apart by markers",)}, {"domain": "our laboratory"}, {"second_reader": "s2"},
    ],
)  # fmt: skip
def test_it_holds_in_no_other_circumstances(other: dict[str, object]) -> None:
    assert calibration().judge(SURE, NOW.model_copy(update=other), 4, 3) is None


def test_it_holds_for_no_other_tokens_per_patch_nor_larger_parts() -> None:
    assert calibration().judge(SURE, NOW, 16, 3) is None
    assert calibration().judge(SURE, NOW, 4, 5) is None


def test_answers_without_the_samples_it_was_made_with_are_not_judged() -> None:
    assert calibration().judge(Signs(-0.1, None, points=True), NOW, 4, 3) is None


def test_the_least_likely_answer_is_one_to_abstain_from() -> None:
    found = calibration(weights=(-200.0, 0.0, 0.0)).judge(Signs(-1e6, 0.0, points=False), NOW, 4, 3)
    assert found is not None
    assert (found.chance, found.abstained) == (0.0, True)
    assert calibration().judge(Signs(math.nan, 1.0, points=True), NOW, 4, 3) is None


def fitted(signs: list[Signs], exact: list[bool]) -> Calibration:
    return fit_calibration(signs, exact, made_for=NOW, tokens_per_patch=[4, 1, 4], most_slides=4)


@given(st.integers(0, 1000), st.floats(-1, 2), st.floats(-1.2, 0), st.floats(-1, 2))
def test_a_fit_finds_the_chances_that_made_the_answers(
    seed: int, intercept: float, doubt: float, points: float
) -> None:
    rng = np.random.default_rng(seed)
    drawn = zip(-rng.exponential(1, 4000), rng.integers(0, 5, 4000) / 4, rng.random(4000) < 0.5, strict=True)
    signs = [Signs(float(logprob), float(share), bool(told)) for logprob, share, told in drawn]
    truth = calibration(intercept=intercept, weights=(doubt, 0.7, points))
    exact = [bool(rng.random() < truth.chance(one)) for one in signs]
    found = fitted(signs, exact)
    assert found.tokens_per_patch == (1, 4)
    for one in (SURE, UNSURE, Signs(-0.3, 0.75, points=True)):
        assert found.chance(one) == pytest.approx(truth.chance(one), abs=0.1)


def test_a_sign_counts_in_its_own_direction_or_not_at_all() -> None:
    rng = np.random.default_rng(1)
    signs = [Signs(float(-rng.exponential(1)), float(rng.integers(0, 5)) / 4, points=False) for _ in range(400)]
    exact = [one.logprob < -0.7 or (one.agreement or 0) < 0.5 for one in signs]  # the doubted ones are right
    doubt, agreement, *_ = fitted(signs, exact).weights
    assert (doubt, agreement) == (0, 0)


SECOND = NOW.model_copy(update={"second_reader": "s1"})


def test_backing_by_single_patches_tells_what_the_answer_itself_does_not() -> None:
    rng = np.random.default_rng(2)
    backing, slides = rng.normal(2, 3, 500), rng.integers(1, 13, 500)
    exact = [bool(b > rng.normal(0, 1)) for b in backing]
    signs = [
        Signs(-0.1, 1.0, points=True, backing=float(b), slides=int(n)) for b, n in zip(backing, slides, strict=True)
    ]
    found = fit_calibration(signs, exact, made_for=SECOND, tokens_per_patch=[4], most_slides=12)
    assert found.chance(Signs(-0.1, 1.0, points=True, backing=4.0, slides=3)) > 0.9
    assert found.chance(Signs(-0.1, 1.0, points=True, backing=-4.0, slides=3)) < 0.1
    assert found.judge(Signs(-0.1, 1.0, points=True, backing=4.0, slides=3), SECOND, 4, 3)
    assert found.judge(Signs(-0.1, 1.0, points=True), SECOND, 4, 3) is None  # held against no second reader
    assert found.judge(Signs(-0.1, 1.0, points=True, backing=4.0, slides=3), NOW, 4, 3) is None
    against = fit_calibration(signs, [not e for e in exact], made_for=SECOND, tokens_per_patch=[4], most_slides=12)
    assert against.weights[3] == 0  # backing makes no answer less sure


def test_answers_with_and_without_a_second_reader_make_no_calibration_together() -> None:
    with pytest.raises(ValueError, match="not all answers were held against the second reader"):
        fit_calibration([SURE] * 60, [True] * 60, made_for=SECOND, tokens_per_patch=[4], most_slides=4)
    with pytest.raises(ValidationError, match="has 3 weights for 5 signs"):
        calibration(made_for=SECOND)


def test_few_answers_make_no_calibration() -> None:
    with pytest.raises(ValueError, match="49 answers are too few"):
        fitted([SURE] * 49, [True] * 49)


def test_answers_that_are_all_right_do_not_end_in_certainty() -> None:
    assert 0.9 < fitted([SURE] * 60, [True] * 60).chance(SURE) < 0.995


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
