import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tilers.readers import open_slide
from workflows.phantom.cohort import SEEDS, draw_case, draw_parts, write_cases
from workflows.phantom.evaluate import score, table
from workflows.phantom.pathology import ORGANS
from workflows.phantom.slide import SlideSpec, lay_out, make_slide
from workflows.phantom.train import QUICK, train

SMALL = {"width_mm": 1.6, "height_mm": 1.2}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec(**given: object) -> SlideSpec:
    return SlideSpec(**({"seed": 5, "organ": "Colon", "diagnosis": "Hyperplastic polyp"} | SMALL | given))  # type: ignore[arg-type]


def test_a_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    make_slide(tmp_path / "a.svs", spec())
    make_slide(tmp_path / "b.svs", spec())
    make_slide(tmp_path / "c.svs", spec(seed=6))
    assert digest(tmp_path / "a.svs") == digest(tmp_path / "b.svs") != digest(tmp_path / "c.svs")


@pytest.mark.parametrize(("layout", "suffix"), [("svs", "svs"), ("tiff", "tif")])
@pytest.mark.parametrize(("mpp", "factors"), [(1.0, ()), (0.5, (4,)), (0.25, (4, 16))])
def test_a_slide_is_what_was_asked_for(
    tmp_path: Path, layout: str, suffix: str, mpp: float, factors: tuple[int, ...]
) -> None:
    path = tmp_path / f"s.{suffix}"
    make_slide(path, spec(layout=layout, mpp=mpp, factors=factors))
    reader = open_slide(path).reader
    assert reader.is_phantom
    assert reader.size == (round(1600 / mpp), round(1200 / mpp))
    assert [round(d) for d in reader.downsamples] == [1, *factors]
    stated = reader.mpp_xy[0] if reader.mpp_xy else reader.tiff_mpp
    assert stated == pytest.approx(mpp, rel=1e-3)


def test_a_lesion_lies_where_and_as_large_as_asked() -> None:
    found = lay_out(spec(width_mm=3.0, height_mm=2.5, lesion_mm=0.6, place=(0.25, 0.5))).lesion
    y, x = np.argwhere(found).mean(0)
    assert abs(x / found.shape[1] - 0.25) < 0.06
    assert abs(y / found.shape[0] - 0.5) < 0.06
    assert 0.6 < found.sum() * 16e-6 / (np.pi * 0.3**2) < 1.4
    assert not lay_out(spec(diagnosis="No pathologic change")).lesion.any()


def test_there_are_organs_and_diagnoses_enough() -> None:
    assert len(ORGANS) >= 4
    assert all(len(o.diagnoses) >= 5 and not o.benign.malignant for o in ORGANS)
    texts = [d.text for o in ORGANS for d in o.diagnoses]
    assert len(set(texts)) == len(texts)


def test_seed_ranges_do_not_meet() -> None:
    ranges = sorted(SEEDS.values(), key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
    with pytest.raises(ValueError, match="outside the demo range"):
        draw_case(5000, "demo")
    with pytest.raises(ValueError, match="'Spleen' is unknown; there are: Colon"):
        draw_case(0, "test", organ="Spleen")


@pytest.mark.parametrize("seed", range(30))
def test_a_case_tells_one_story(seed: int) -> None:
    case = draw_case(seed, "test")
    assert 1 <= len(case.slides) <= 12
    assert sum(case.lesion_on) <= 3
    assert any(case.lesion_on) == (case.diagnosis is not case.organ.benign)
    assert case.text.splitlines()[-2] == case.diagnosis.text
    assert len({s.seed for s in case.slides}) == len(case.slides)


def test_truth_is_written_beside_the_slides(tmp_path: Path) -> None:
    case = draw_case(3, "test", slides=2, **SMALL)
    write_cases(tmp_path, [case])
    (truth,) = json.loads((tmp_path / "truth.json").read_text())["cases"]
    assert truth["report"] == case.text
    assert sorted(s["file"] for s in truth["slides"]) == sorted(p.name for p in (tmp_path / case.id).iterdir())


def test_a_case_of_several_parts_is_found_as_one(tmp_path: Path) -> None:
    import wsi_pipeline as wp

    drawn = draw_parts(4, "test", 2, slides=1, **SMALL)
    write_cases(tmp_path, drawn)
    for (case,) in (wp.find_cases(tmp_path), wp.find_cases(manifest=tmp_path / "manifest.csv")):
        assert [part.name for part in case.parts] == ["A", "B"]
        assert len(case.slides) == 2
    truth = json.loads((tmp_path / "truth.json").read_text())["cases"]
    assert [t["part"] for t in truth] == ["A", "B"]


def test_no_report_is_a_wrong_report() -> None:
    case = draw_case(1, "test")
    missing = score(None, case, "1")
    assert not missing.exact
    assert not missing.slides_named
    rates = table([missing])["1"]
    assert (rates["n"], rates["exact"], rates["low"]) == (1, 0.0, 0.0)
    assert rates["high"] == pytest.approx(0.793, abs=1e-3)  # Wilson, 0 of 1


def test_the_recipe_runs_and_its_checkpoint_writes(tmp_path: Path) -> None:
    import wsi_pipeline as wp

    figures = train(tmp_path / "pool", tmp_path / "model", QUICK, workers=2)
    assert figures["parameters"] < 2.5e6
    assert (tmp_path / "model/model.safetensors").stat().st_size < 10e6
    write_cases(tmp_path / "slides", [draw_case(2, "test", slides=1, **SMALL)])
    (outcome,) = wp.run(tmp_path / "slides", tmp_path / "out", model=str(tmp_path / "model"), max_new_tokens=20)
    assert outcome.status == "done"
