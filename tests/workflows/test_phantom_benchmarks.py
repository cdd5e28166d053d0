"""Scores, and the benchmarks that read phantom cases."""

import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from reporters.answers import PartDraft
from reporters.confidence import SIGNS, Calibration
from tests.workflows.conftest import SMALL
from tilers.tile import ALGORITHM
from workflows.checkpoints import Model
from workflows.phantom.drawing.cohort import draw_case
from workflows.phantom.drawing.pool import build_pool
from workflows.phantom.measuring.novelty import found_by, plain_features
from workflows.phantom.measuring.reports import ALL_BENIGN, WHOLE, Readers, draw_cohort, measure
from workflows.phantom.measuring.robustness import HANDLINGS, measure_robustness
from workflows.phantom.measuring.said import said_in_earlier_draft
from workflows.phantom.measuring.scoring import NOTHING, Said, auroc, rates, score, truth_of
from workflows.phantom.measuring.shortcuts import KINDS, right_diagnosis, said_by, train_shortcut
from workflows.phantom.measuring.single_slides import encoded
from workflows.phantom.pathology import ORGANS
from wsi_pipeline.models import find_checkpoint
from wsi_pipeline.models.checkpoint import SHIPPED
from wsi_pipeline.settings import ModelSettings
from wsi_pipeline.store.patches import PatchStore


def test_a_perfect_reader_scores_and_errors_are_told_apart() -> None:
    (part,) = draw_case(1, "test", slides=4, organ="Breast", diagnosis="Invasive ductal carcinoma, grade 1").parts
    truth = truth_of(part)
    best = score("x", truth, part)
    assert best.exact
    assert best.slides
    assert best.extent
    assert best.spotless
    assert not score("x", replace(truth, lines=(*truth.lines[:-1], "Cyst")), part).spotless
    assert not score("x", replace(truth, contradicts=True), part).spotless
    ((text, extent, slides),) = truth.findings
    other = Said(truth.specimen, ((text.replace("grade 1", "grade 2"), extent, slides),))
    assert not score("x", other, part).exact
    assert score("x", other, part).name
    benign = Said(truth.specimen, ((part.organ.benign.text, "", ()),))
    assert score("x", benign, part).called_benign
    assert not score("x", Said(truth.specimen, ((text, extent, (9,)),)), part).slides
    assert score("x", Said("Colon, biopsy", truth.findings), part).wrong_organ
    assert score("x", Said("Colon, biopsy", (), abstained=True), part).wrong_organ
    assert not score("x", Said(truth.specimen, ()), part).wrong_organ
    (well,) = draw_case(1, "test", slides=1, organ="Colon", diagnosis="No pathologic change").parts
    assert score("x", Said("Colon, biopsy", (("Hyperplastic polyp", "", (1,)),)), well).called_diseased


def test_no_report_is_a_wrong_report() -> None:
    missing = score("x", NOTHING, draw_case(1, "test", slides=1).parts[0])
    assert not missing.exact
    assert not missing.wrong_organ
    assert missing.silent
    assert rates([missing])["organ wrong"].hits == 0
    found = rates([missing])["exact"]
    assert (found.hits, found.of, found.share, found.low) == (0, 1, 0.0, 0.0)
    assert found.high == pytest.approx(0.793, abs=1e-3)  # Wilson, 0 of 1


def test_a_sign_that_orders_all_is_worth_one_and_a_constant_a_half() -> None:
    right = np.array([False, False, True, True])
    assert auroc(np.array([1, 2, 3, 4]), right) == 1
    assert auroc(np.array([4, 3, 2, 1]), right) == 0
    assert auroc(np.ones(4), right) == 0.5


def test_calling_everything_benign_is_exact_by_chance_only() -> None:
    (well,) = draw_case(1, "test", slides=1, organ="Colon", diagnosis="No pathologic change").parts
    (ill,) = draw_case(1, "test", slides=1, organ="Colon", diagnosis="Hyperplastic polyp").parts
    benign = Said("Colon, biopsy", (("No pathologic change", "", ()),))
    found = rates([score("x", benign, part) for part in (well, ill)])
    assert (found["exact"].hits, found["exact, diseased"].hits, found["exact, diseased"].of) == (1, 0, 1)


def test_answers_of_the_first_phantom_are_understood_or_nothing() -> None:
    seen = PartDraft(specimen="Colon, biopsy", unparsed=("Tubular adenoma", "Seen on: 2, 11"))
    assert said_in_earlier_draft(seen, []) == Said("Colon, biopsy", (("Tubular adenoma", "", (2, 11)),))
    for lines in ((), ("Tubular adenoma",), ("Tubular adenoma", "Seen on: Tubular adenoma"), ("a", "Seen on: 2,")):
        assert said_in_earlier_draft(PartDraft(unparsed=lines), []) == NOTHING


def test_what_a_model_abstains_from_is_not_said(tmp_path: Path) -> None:
    size = {"width_mm": 2.4, "height_mm": 2.0, "mpp": 1.0, "factors": (4,)}
    checkpoint = shutil.copytree(find_checkpoint("phantom").folder, tmp_path / "unsure")
    file = checkpoint / "wsi_calibration.json"
    unsure = Calibration.model_validate_json(file.read_text()).model_copy(update={"threshold": 1.0})
    file.write_text(unsure.model_dump_json())
    case = draw_case(900_002, "test", slides=2, extent="focal", **size)
    ((found, benign),) = measure(tmp_path / "work", [case], Readers(str(checkpoint)), workers=1, compared=0)
    assert benign.reader == ALL_BENIGN
    assert found.abstained
    assert found.silent
    assert not found.exact


def test_a_cohort_fills_every_bucket() -> None:
    cases = draw_cohort(40, 3)
    counts = [len(part.slides) for case in cases for part in case.parts]
    assert [sum(low <= n <= high for n in counts) for low, high in ((1, 1), (2, 5), (6, 12))] == [3, 3, 3]
    assert len({case.id for case in cases}) == len(cases)


def test_the_benchmark_reads_a_case_from_files(tmp_path: Path) -> None:
    size = {"width_mm": 2.4, "height_mm": 2.0, "mpp": 1.0, "factors": (4,)}
    case = draw_case(900_002, "test", slides=2, extent="focal", **size)
    (scores,) = measure(tmp_path, [case], Readers(), workers=1)
    assert [s.reader for s in scores] == [WHOLE, *Readers().rows, ALL_BENIGN]
    assert scores[0].exact
    assert not scores[-1].exact
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_are_small(name: str) -> None:
    folder = resources.files("wsi_pipeline") / "models" / name
    assert 1e6 < sum(len(file.read_bytes()) for file in folder.iterdir() if file.is_file()) < 10e6


def test_the_shipped_calibration_is_its_checkpoints_own() -> None:
    shipped = find_checkpoint("phantom")
    folder = resources.files("wsi_pipeline") / "models" / "phantom"
    calibration = Calibration.model_validate_json((folder / "wsi_calibration.json").read_text())
    made_for = calibration.made_for
    now = (shipped.revision, ALGORITHM, SIGNS)
    assert (made_for.revision, made_for.tiling, made_for.signs) == now, "calibrate it again"


def test_slides_may_be_handled_differently(tmp_path: Path) -> None:
    # a rescan at 40X, which takes longest, is the benchmark's
    some = [handling for handling in HANDLINGS if ("mpp", 0.25) not in handling.scanned]
    assert len(some) == len(HANDLINGS) - 1
    _, same = measure_robustness(tmp_path, 900_009, 2, workers=1, handlings=some)
    assert same == dict.fromkeys((handling.name for handling in some), True)
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_kept_tokens_are_those_of_the_model_that_reads(tmp_path: Path, gemma: Path) -> None:
    (slide,) = build_pool(tmp_path, draw_case(1, "test", slides=1, **SMALL).parts[0].slides, 1)
    models = [Model(ModelSettings(name=name)) for name in ("phantom", str(gemma))]
    kept = [encoded(model, slide, tmp_path) for model in models]
    assert [tokens.facts.revision for tokens in kept] == [model.revision for model in models]


def test_a_classifier_learns_what_its_evidence_gives_away(tmp_path: Path) -> None:
    lesions = ORGANS[0].lesions[:4]
    fixed = {"slides": 1, "organ": "Colon", "extent": "focal", **SMALL}
    drawn = [draw_case(n, "train", diagnosis=lesion.text, **fixed) for n, lesion in enumerate(lesions)]
    pool = list(build_pool(tmp_path, [case.parts[0].slides[0] for case in drawn], 2))
    known = {kind: train_shortcut(kind, pool, steps=60) for kind in KINDS}
    # slides known by heart: that it fails on others is then not for want of learning
    assert {kind: right_diagnosis(shortcut, pool) for kind, shortcut in known.items()} == dict.fromkeys(KINDS, 4)
    said = said_by(known["thumbnail"], ORGANS[0], [PatchStore(slide.store) for slide in pool])
    assert said.specimen == "Colon, biopsy"
    assert said.diagnoses[0] in {lesion.text for lesion in lesions}


def test_farthest_points_find_what_is_new_and_chance_what_is_common() -> None:
    rng = np.random.default_rng(0)
    lesion = np.arange(100) == 40
    features = rng.normal(size=(100, 6)).astype(np.float32)
    features[lesion] += 30
    seen = {
        choose: [found_by(choose, lesion, features, 0.1, seed) for seed in range(60)]
        for choose in ("farthest", "random")
    }
    assert np.mean(seen["farthest"]) == 1
    assert 0 < np.mean(seen["random"]) < 0.3
    hidden = rng.normal(size=(100, 6)).astype(np.float32)
    assert np.mean([found_by("farthest", lesion, hidden, 0.1, seed) for seed in range(60)]) < 0.5


def test_plain_features_tell_blur_and_colour_apart(tmp_path: Path) -> None:
    (slide,) = build_pool(tmp_path, draw_case(1, "test", slides=1, **SMALL).parts[0].slides, 1)
    features = plain_features(slide)
    assert features.shape == (len(slide.shares), 24)
    assert np.isfinite(features).all()
    store = PatchStore(slide.store)
    means = np.concatenate([batch.mean((1, 2)) for batch in store.batches(16)])
    np.testing.assert_allclose(features[:, :3], means, atol=0.5)
