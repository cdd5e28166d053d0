"""The main job from slide files to published reports."""

import json
import re
import shutil
from pathlib import Path

import pytest

import wsi_pipeline as wp
from reporters.render import render_html, take_pictures
from reporters.schema import Evidence, Finding, Sentence
from tests.conftest import MakeSlide, tissue_image
from tests.workflows.conftest import PHANTOM
from workflows.estimate import describe, estimate
from workflows.run import exit_code, run
from workflows.stages import run_stage
from wsi_pipeline.errors import ModelError, StoreError, UsageError
from wsi_pipeline.settings import ModelSettings, RunSettings, gather
from wsi_pipeline.store.outcome import CaseOutcome
from wsi_pipeline.store.patches import PatchStore


def one(outcomes: list[CaseOutcome], case: str) -> CaseOutcome:
    return next(o for o in outcomes if o.case == case)


def test_every_case_ends_with_the_right_report(phantom_cases: Path, finished: tuple[Path, list[CaseOutcome]]) -> None:
    out, outcomes = finished
    assert exit_code(outcomes) == 0
    for truth in json.loads((phantom_cases / "truth.json").read_text())["parts"]:
        outcome = one(outcomes, truth["case"])
        assert outcome.status == "done"
        folder = out / "cases" / truth["case"] / str(outcome.report)
        report = wp.load_report(folder)
        said = [s.text for s in report.parts[0].diagnosis]
        assert said == ([f["diagnosis"] for f in truth["findings"]] or ["Benign prostatic tissue"])
        assert outcome.diagnoses[0].endswith(said[0])
        shown = {s["file"].split(".")[0] for s in truth["slides"] if s["foci"]}
        assert {s.rsplit("-", 1)[0] for s in report.parts[0].seen_on} == shown
        page, text = (folder / "report.html").read_text(), (folder / "report.txt").read_text()
        assert said[0] in page
        assert said[0] in text
        assert "Preliminary" in page
        done = report.parts[0].completeness
        assert f"{done.patches_read} of {done.patches_found} patches read" in text
        assert done.patches_read == done.patches_found > 0
        assert all(slide.quality for slide in report.slides)
    assert "phantom-test" in (out / "index.html").read_text()


def test_a_page_needs_no_network_and_runs_no_script(finished: tuple[Path, list[CaseOutcome]]) -> None:
    for page in finished[0].rglob("*.html"):
        text = page.read_text()
        assert "default-src 'none'" in text
        for forbidden in ("<script", "http://", "https://", 'src="//', "@import", "url("):
            assert forbidden not in text


def test_evidence_lies_on_the_slides_that_show_it(finished: tuple[Path, list[CaseOutcome]]) -> None:
    out, outcomes = finished
    sick = max(outcomes, key=lambda o: len(o.slides))
    (part,) = wp.load_report(out / "cases" / sick.case / str(sick.report)).parts
    (diagnosis,) = part.diagnosis
    assert diagnosis.method == "inherited"
    assert {e.slide for e in diagnosis.evidence} <= set(part.seen_on)
    for finding in part.findings:
        assert finding.sentences[0].method == "attention"
        assert {e.slide for e in finding.sentences[0].evidence} == set(finding.slides)


def test_the_page_shows_all_that_the_diagnosis_rests_on(finished: tuple[Path, list[CaseOutcome]]) -> None:
    out, outcomes = finished
    folder = out / "cases" / outcomes[0].case
    report = wp.load_report(folder / str(outcomes[0].report))
    (part,) = report.parts
    (slide, *_) = [s.id for s in report.slides]
    store = PatchStore(folder / "slides" / slide / report.provenance.stores[f"{slide}/patches"])

    def sentence(weight: float, *patches: int) -> Sentence:
        pieces = tuple(Evidence(slide=slide, patch=p, x=0, y=0, edge=9, weight=weight) for p in patches)
        return Sentence(text="Words", method="attention", evidence=pieces)

    strong = Finding(id="F9", slides=(slide,), patches=9, sentences=(sentence(0.9, *range(7)),), cited=False)
    changed = {"diagnosis": (sentence(0.01, 8, 7),), "findings": (strong,)}
    page = render_html(
        report.model_copy(update={"parts": (part.model_copy(update=changed),)}), {slide: take_pictures(store, range(9))}
    )
    shown = re.findall(r"patch (\d+)", page)
    assert shown[:3] == ["8", "7", "0"]
    assert len(shown) == 6


def test_the_phantom_writes_no_diagnosis_on_other_slides(make_slide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (outcome,) = run(wp.find_cases(make_slide()), tmp_path / "out", PHANTOM)
    report = wp.load_report(tmp_path / "out/cases" / outcome.case / str(outcome.report))
    (part,) = report.parts
    assert part.diagnosis == ()
    assert part.findings == ()
    assert "does not write on real ones" in str(part.no_diagnosis)
    assert report.slides[0].tissue_mm2


def test_a_whole_case_with_a_random_medgemma(make_slide, gemma: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = gather({"model": str(gemma), "max_new_tokens": 40, "patch_size": 128})
    (outcome,) = run(wp.find_cases(make_slide()), tmp_path / "out", settings)
    assert outcome.status == "done"
    report = wp.load_report(tmp_path / "out/cases" / outcome.case / str(outcome.report))
    (part,) = report.parts
    assert part.plan is not None
    assert part.plan.strategy == "windows"
    assert part.plan.patches_read == part.plan.patches_found == report.slides[0].patches


@pytest.mark.parametrize("zoom", ["novelty", "evidence"])
def test_a_mixed_plan_reads_every_patch_and_some_finer(
    phantom_cases: Path, tmp_path: Path, zoom: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case for case in wp.find_cases(phantom_cases) if len(case.slides) > 1][:1]
    (outcome,) = run(cases, tmp_path, gather({"model": "phantom", "plan": "mixed", "zoom": zoom, "fine_patches": 5}))
    report = wp.load_report(tmp_path / "cases" / outcome.case / str(outcome.report))
    plan = report.parts[0].plan
    assert plan
    assert plan.patches_read == plan.patches_found
    shares = plan.windows[0].slides
    assert sum(len(share.fine) for share in shares) == 5
    assert {t for slide in plan.grids(plan.windows[0]) for t in slide} == {1, 4}
    assert not plan.second_look
    page = (tmp_path / "cases" / outcome.case / str(outcome.report) / "report.html").read_text()
    assert "5 patches at 4" in page
    assert report.parts[0].confidence is None
    # the report is known by the plan before the first look, without anything loaded
    outcome_file = tmp_path / "cases" / outcome.case / "outcome.json"
    outcome_file.unlink()
    monkeypatch.setattr("workflows.checkpoints.Model.writer", None)
    given = gather({"model": "phantom", "plan": "mixed", "zoom": zoom, "fine_patches": 5})
    (again,) = run(cases, tmp_path, given)
    assert (again.status, again.report) == (outcome.status, outcome.report)
    assert "mixed" in describe(estimate(cases, given, tmp_path / "elsewhere"))


def test_a_search_reads_every_patch_and_confirms_what_it_finds(phantom_cases: Path, tmp_path: Path) -> None:
    cases = [case for case in wp.find_cases(phantom_cases) if len(case.slides) > 1][:1]
    given = gather({"model": "phantom", "plan": "search", "fine_patches": 9})
    (outcome,) = run(cases, tmp_path, given)
    report = wp.load_report(tmp_path / "cases" / outcome.case / str(outcome.report))
    (part,) = report.parts
    plan = part.plan
    assert plan
    assert plan.patches_read == plan.patches_found
    assert 9 <= sum(window.patches for window in plan.close) <= 27
    assert part.completeness.complete
    (polyp,) = part.diagnosis
    assert polyp.text.startswith("Tubular adenoma, low grade")
    assert set(polyp.seen_on) == {window.names[0] for window in plan.alone} != set()
    assert {e.slide for e in polyp.evidence} == set(polyp.seen_on)
    assert len(part.findings) == len(cases[0].slides)
    assert part.confidence is None
    page = (tmp_path / "cases" / outcome.case / str(outcome.report) / "report.html").read_text()
    assert f"search, {len(plan.sequences)} window(s), 1 token(s) per patch, {plan.fine} patches at 4" in page
    assert "search" in describe(estimate(cases, given, tmp_path / "elsewhere"))


@pytest.mark.parametrize("asked", [{"plan": "mixed"}, {"tokens_per_patch": 2}])
def test_what_a_checkpoint_cannot_do_is_refused_before_tiling(
    phantom_cases: Path, gemma: Path, tmp_path: Path, asked: dict[str, object]
) -> None:
    with pytest.raises(ModelError, match="trained with 4"):
        run(wp.find_cases(phantom_cases), tmp_path, gather({"model": str(gemma), **asked}))
    assert not (tmp_path / "cases").exists()


@pytest.mark.parametrize("stage", ["report", "encode"])
def test_what_leaves_no_room_for_a_patch_is_refused_before_tiling(
    make_slide: MakeSlide, gemma: Path, tmp_path: Path, stage: str
) -> None:
    for seed, name in enumerate(("a.svs", "b.svs")):
        make_slide(name, image=tissue_image(800, 800 + 16 * seed))
    table = tmp_path / "cases.csv"
    table.write_text(f"case_id,slide,context\nlong,a.svs,{'old ' * 3000}\nshort,b.svs,\n")
    cases = wp.find_cases(manifest=table)
    settings = gather({"model": str(gemma), "max_new_tokens": 10})
    if stage == "report":
        ended = {outcome.case: str(outcome.reason) for outcome in run(cases, tmp_path / "out", settings)}
    else:
        works = run_stage("encode", cases, tmp_path / "out", settings)
        ended = {work.case.id: str([o.reason for o in work.outcomes.values()]) for work in works}
    assert "one patch takes" in ended["long"]
    assert "shorten what the manifest says of the part" in ended["long"] or stage == "encode"
    assert "one patch" not in ended["short"]
    assert not list((tmp_path / "out/cases/long").rglob("*.zarr"))
    assert list((tmp_path / "out/cases/short").rglob("*.zarr"))


def test_a_longer_context_is_said_aloud(make_slide, gemma_with_positions: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cases = wp.find_cases(make_slide(image=tissue_image(1600, 2000)))
    told = {}
    for tokens in (None, 4096, 9000):
        given = {"model": str(gemma_with_positions), "max_new_tokens": 10, "patch_size": 32, "context_tokens": tokens}
        (outcome,) = run(cases, tmp_path / "out", gather({k: v for k, v in given.items() if v is not None}))
        plan = wp.load_report(tmp_path / "out/cases" / outcome.case / str(outcome.report)).parts[0].plan
        assert plan
        told[tokens] = (len(plan.windows), " · ".join(plan.deviations))
    assert told[None][0] == 2
    assert "tokens" not in told[None][1]
    assert told[4096][0] == told[9000][0] == 1
    assert "sequences of up to 4,013 tokens; gemma-3 is made for 2,048" in told[4096][1]
    assert "positions of global layers stretched 2.00 times for 4,096 tokens" in told[4096][1]
    assert "stretched 4.39 times for 9,000 tokens" in told[9000][1]


def test_measurements_only(phantom_cases: Path, tmp_path: Path) -> None:
    outcomes = run(wp.find_cases(phantom_cases), tmp_path, RunSettings(model=ModelSettings(name="none")))
    assert exit_code(outcomes) == 0
    assert "measurements only" in outcomes[0].diagnoses[0]
    assert not list(tmp_path.glob("cases/*/slides/*/tokens*"))


def test_native_patches_follow_the_checkpoint(make_slide, gemma: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = gather({"model": str(gemma), "native_patches": True, "max_new_tokens": 8})
    (outcome,) = run(wp.find_cases(make_slide()), tmp_path / "out", settings)
    report = wp.load_report(tmp_path / "out/cases" / outcome.case / str(outcome.report))
    assert report.provenance.settings["tile"]["patch_size"] == 896
    assert report.parts[0].plan is not None
    assert report.parts[0].plan.deviations == ()
    with pytest.raises(UsageError, match="needs a model"):
        run(wp.find_cases(make_slide()), tmp_path / "out", gather({"model": "none", "native_patches": True}))


def test_two_parts_are_two_diagnoses(phantom_cases: Path, tmp_path: Path) -> None:
    source = tmp_path / "slides/case"
    for part, folder in zip("AB", sorted(p for p in phantom_cases.iterdir() if p.is_dir()), strict=True):
        shutil.copytree(folder, source / part)
    (outcome,) = run(wp.find_cases(source.parent), tmp_path / "out", PHANTOM)
    assert outcome.diagnoses == (
        "Part A: Colon, biopsy; Tubular adenoma, low grade",
        "Part B: Prostate, needle biopsy; Benign prostatic tissue",
    )


def test_an_unexpected_error_fails_its_case_not_the_night(
    phantom_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import workflows.case

    def stumble(work: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(workflows.case, "tile_case", stumble)
    outcomes = run(wp.find_cases(phantom_cases), tmp_path, PHANTOM)
    assert [o.reason for o in outcomes] == ["unexpected ZeroDivisionError: odd"] * 2


def test_a_model_that_cannot_be_had_is_found_before_tiling(phantom_cases: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="accept the licence"):
        run(wp.find_cases(phantom_cases), tmp_path, RunSettings())
    assert not list(tmp_path.rglob("*.zarr"))


def test_an_unwritable_out_stops_before_any_work(phantom_cases: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        run(wp.find_cases(phantom_cases), tmp_path / "out", PHANTOM)


def test_two_cases_of_one_id_are_refused(phantom_cases: Path, tmp_path: Path) -> None:
    case = wp.find_cases(phantom_cases)[0]
    with pytest.raises(UsageError, match="id of two cases"):
        run([case, case], tmp_path, PHANTOM)
