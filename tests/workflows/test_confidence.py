"""What a report says about how sure its model is."""

import re
import shutil
from pathlib import Path

import pytest

import wsi_pipeline as wp
from reporters.confidence import SIGNS, Calibration
from reporters.schema import Report
from reporters.second_reader import PatchClassifier, save_second_reader
from tests.benchmarks import run_benchmark
from tilers.tile import ALGORITHM
from workflows.run import run
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import CALIBRATION, PHANTOM_FOLDER, SECOND_READER, find_checkpoint, second_reader_of
from wsi_pipeline.settings import ModelSettings, ReportSettings, RunSettings, TileSettings


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The phantom checkpoint without its calibration."""
    folder = shutil.copytree(PHANTOM_FOLDER, tmp_path / "checkpoint")
    (folder / CALIBRATION).unlink(missing_ok=True)
    return folder


def report_of(out: Path, cases: Path, checkpoint: Path) -> tuple[Report, str, str]:
    (outcome,) = run(wp.find_cases(cases)[-1:], out, RunSettings(model=ModelSettings(name=str(checkpoint))))
    folder = out / "cases" / outcome.case / str(outcome.report)
    report = Report.model_validate_json((folder / "report.json").read_text())
    return report, (folder / "report.txt").read_text(), (folder / "report.html").read_text()


def put(checkpoint: Path, threshold: float, **changes: object) -> None:
    circumstances = {
        "revision": find_checkpoint(str(checkpoint)).revision, "dtype": "float32", "tiling": ALGORITHM, "plan": "joint",
        "samples": 2, "domain": "phantom", "signs": SIGNS,
    }  # fmt: skip
    weights = [-0.1, 0.5, 0.1]
    if second := second_reader_of(checkpoint):
        circumstances["second_reader"] = second
        weights += [0.1, 0.0]
    made = Calibration.model_validate(
        {
            "made_for": circumstances | changes, "tokens_per_patch": (1, 4), "most_slides": 12, "parts": 321,
            "intercept": 2.0, "weights": weights, "threshold": threshold,
        }
    )  # fmt: skip
    (checkpoint / CALIBRATION).write_text(made.model_dump_json())


def test_without_a_calibration_no_number_is_shown(phantom_cases: Path, tmp_path: Path, checkpoint: Path) -> None:
    report, text, page = report_of(tmp_path / "out", phantom_cases, checkpoint)
    assert all((part.confidence, part.agreement) == (None, None) for part in report.parts)
    assert "Confidence: not calibrated" in text
    assert "<b>not calibrated</b>" in page


def test_confidence_is_told_with_what_it_rests_on(phantom_cases: Path, tmp_path: Path, checkpoint: Path) -> None:
    put(checkpoint, 0.0)
    report, text, page = report_of(tmp_path / "out", phantom_cases, checkpoint)
    confidence = report.parts[0].confidence
    assert confidence is not None
    assert 0 < confidence.chance < 1
    assert report.parts[0].agreement in (0.0, 0.5, 1.0)
    assert f"Confidence: {confidence.chance:.0%}" in text
    assert "calibrated on 321 phantom parts" in page
    assert report.parts[0].diagnosis


def test_a_second_reader_is_told_of_and_calibrated_for(phantom_cases: Path, tmp_path: Path, checkpoint: Path) -> None:
    put(checkpoint, 0.0)
    (with_it,) = report_of(tmp_path / "out", phantom_cases, checkpoint)[0].parts
    assert with_it.backing is not None
    (checkpoint / SECOND_READER).unlink()
    (without,) = report_of(tmp_path / "out", phantom_cases, checkpoint)[0].parts
    assert without.diagnosis == with_it.diagnosis
    assert (without.backing, without.confidence) == (None, None)


def test_a_second_reader_of_another_tower_ends_the_run_before_it_begins(
    phantom_cases: Path, tmp_path: Path, checkpoint: Path
) -> None:
    save_second_reader(checkpoint, PatchClassifier(8, 2), [("Skin", "Normal skin"), ("Skin", "Melanoma")])
    with pytest.raises(ModelError, match="reads tokens 8 wide, and the checkpoint's are 128"):
        wp.run(phantom_cases, tmp_path / "out", model=str(checkpoint))


def test_slides_of_another_power_than_stated_have_no_confidence(
    phantom_cases: Path, tmp_path: Path, checkpoint: Path
) -> None:
    put(checkpoint, 0.0)
    given = RunSettings(model=ModelSettings(name=str(checkpoint)), tile=TileSettings(force_mpp=0.98))
    (outcome,) = run(wp.find_cases(phantom_cases)[-1:], tmp_path / "out", given)
    (part,) = wp.load_report(tmp_path / "out/cases" / outcome.case / str(outcome.report)).parts
    assert part.diagnosis
    assert part.confidence is None


def test_nothing_is_drawn_for_a_plan_that_the_calibration_was_not_made_for(
    phantom_cases: Path, tmp_path: Path, checkpoint: Path
) -> None:
    put(checkpoint, 0.0)
    given = RunSettings(model=ModelSettings(name=str(checkpoint)), report=ReportSettings(plan="windows"))
    (outcome,) = run(wp.find_cases(phantom_cases)[-1:], tmp_path / "out", given)
    (part,) = wp.load_report(tmp_path / "out/cases" / outcome.case / str(outcome.report)).parts
    assert part.diagnosis
    assert (part.agreement, part.confidence) == (None, None)


def test_an_unsure_model_abstains_and_says_what_it_leaned_to(
    phantom_cases: Path, tmp_path: Path, checkpoint: Path
) -> None:
    put(checkpoint, 0.0)
    sure, _, _ = report_of(tmp_path / "out", phantom_cases, checkpoint)
    put(checkpoint, 1.0)
    report, text, page = report_of(tmp_path / "out", phantom_cases, checkpoint)
    (part,) = report.parts
    assert (part.diagnosis, part.leaning) == ((), sure.parts[0].diagnosis)
    assert "No diagnosis: the model abstains" in text
    assert f"It leaned to: {part.leaning[0].text}" in text
    assert "It leaned to:" in page


def test_a_calibration_of_another_revision_shows_nothing(phantom_cases: Path, tmp_path: Path, checkpoint: Path) -> None:
    put(checkpoint, 0.5, revision="local-another")
    report, _, _ = report_of(tmp_path / "out", phantom_cases, checkpoint)
    assert report.parts[0].confidence is None


def test_the_sweep_tells_every_contrast_and_what_abstaining_costs() -> None:
    told = run_benchmark("confidence.py", "--seed", "610004", "--parts", "2", "--workers", "1")
    assert "2 phantom parts of 1 to 12 slides, 0 of them without an answer" in told
    assert re.search(r"AUROC of confidence", told)
    assert re.search(r"of 2 parts with a number: Brier score \d", told)
