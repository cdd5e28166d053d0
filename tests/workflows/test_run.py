"""The main job from slide files to published reports."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import wsi_pipeline as wp
from reporters.render import render_html, take_pictures
from reporters.safety import WITHHELD
from reporters.schema import Evidence, Finding, Report, Sentence
from tests.conftest import tissue_image
from tests.tilers.tiffs import replace_tile, write_tiff
from tests.workflows.conftest import PHANTOM
from workflows.estimate import describe, estimate
from workflows.run import exit_code, run
from wsi_pipeline.errors import ModelError, StoreError, UsageError
from wsi_pipeline.settings import ModelSettings, RunSettings, gather
from wsi_pipeline.store.outcome import CaseOutcome
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.verdicts import verdicts


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


def test_a_bad_slide_leaves_the_others_and_withholds_denials(phantom_cases: Path, tmp_path: Path) -> None:
    source = tmp_path / "slides"
    well = next(p for p in phantom_cases.iterdir() if p.is_dir() and p.name.endswith("1"))
    shutil.copytree(well, source / "case")
    (source / "case/broken.svs").write_bytes(b"not a slide")
    outcomes = run(wp.find_cases(source), tmp_path / "out", PHANTOM)
    (outcome,) = outcomes
    assert outcome.status == "incomplete"
    assert exit_code(outcomes) == 3
    bad = next(s for s in outcome.slides if s.status == "failed")
    assert "cannot be opened" in str(bad.reason)
    report = wp.load_report(tmp_path / "out/cases/case" / str(outcome.report))
    assert report.parts[0].diagnosis[0].text == WITHHELD
    assert report.parts[0].seen_on == ()
    assert str(report.parts[0].completeness.addendum).startswith("This draft rests on 1 of 2 slides.")
    # a calibration is about parts that were read whole
    assert report.parts[0].confidence is None
    assert "An addendum has to follow when broken" in (tmp_path / "out/cases/case/reports/0001/report.html").read_text()
    assert "benign prostatic tissue" not in (tmp_path / "out/cases/case/reports/0001/report.html").read_text().lower()
    (source / "case/broken.svs").unlink()
    (again,) = run(wp.find_cases(source), tmp_path / "out", PHANTOM)
    assert (again.status, again.report) == ("done", "reports/0002")
    assert (tmp_path / "out/cases/case/reports/0001/report.json").exists()


def test_other_stains_duplicates_and_missing_files_have_their_rows(phantom_cases: Path, tmp_path: Path) -> None:
    slide = next((phantom_cases / "phantom-test-900001").iterdir())
    shutil.copy(slide, tmp_path / f"a{slide.suffix}")
    shutil.copy(slide, tmp_path / f"b{slide.suffix}")
    shutil.copy(slide, tmp_path / f"c{slide.suffix}")
    rows = [f"c,a{slide.suffix},", f"c,b{slide.suffix},Ki-67", f"c,c{slide.suffix},", "c,gone.svs,"]
    (tmp_path / "m.csv").write_text("case_id,slide,stain\n" + "\n".join(rows) + "\n")
    (outcome,) = run(wp.find_cases(manifest=tmp_path / "m.csv"), tmp_path / "out", PHANTOM)
    assert [s.status for s in outcome.slides] == ["done", "skipped", "skipped", "failed"]
    assert [s.reason for s in outcome.slides[1:3]] == [
        "not read: Ki-67",
        f"duplicate of {outcome.slides[0].slide}, byte for byte",
    ]
    assert outcome.status == "incomplete"


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


def test_a_slide_that_belongs_to_two_parts_is_read_for_both(phantom_cases: Path, tmp_path: Path) -> None:
    slide = next((phantom_cases / "phantom-test-900001").iterdir())
    for part in "AB":
        (tmp_path / "slides/case" / part).mkdir(parents=True)
        shutil.copy(slide, tmp_path / "slides/case" / part / f"both{slide.suffix}")
    (outcome,) = run(wp.find_cases(tmp_path / "slides"), tmp_path / "out", PHANTOM)
    assert [s.status for s in outcome.slides] == ["done", "done"]
    report = wp.load_report(tmp_path / "out/cases/case" / str(outcome.report))
    assert [bool(part.diagnosis) for part in report.parts] == [True, True]


def test_a_case_of_which_only_some_patches_were_read_is_incomplete(phantom_cases: Path, tmp_path: Path) -> None:
    cases = [case for case in wp.find_cases(phantom_cases) if len(case.slides) > 1][:1]
    outcomes = run(cases, tmp_path, gather({"model": "phantom", "max_patches": 1}))
    (outcome,) = outcomes
    assert (outcome.status, exit_code(outcomes)) == ("incomplete", 0)
    (part,) = wp.load_report(tmp_path / "cases" / outcome.case / str(outcome.report)).parts
    done = part.completeness
    assert (done.slides_read, done.complete, part.confidence) == (1, False, None)
    assert sum("none of its patches was read" in gap for gap in done.gaps) == done.slides - 1


def test_a_case_without_a_slide_to_read_says_why(phantom_cases: Path, tmp_path: Path) -> None:
    slide = next((phantom_cases / "phantom-test-900001").iterdir())
    (tmp_path / "m.csv").write_text(f"case_id,slide,stain\nc,{slide},Ki-67\n")
    (outcome,) = run(wp.find_cases(manifest=tmp_path / "m.csv"), tmp_path / "out", PHANTOM)
    assert (outcome.status, outcome.reason) == ("no_tissue", "not read: Ki-67")


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


def test_poor_patches_are_left_out_when_asked_and_said_so(make_slide, gemma: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    image = tissue_image(1600, 2000)
    smooth = (image[:, :1000] < 230).any(2)
    image[:, :1000][smooth] = (205, 120, 175)
    cases = wp.find_cases(make_slide(image=image))
    given = {"model": str(gemma), "max_new_tokens": 10, "patch_size": 128}

    def read(**more: object) -> Report:
        (outcome,) = run(cases, tmp_path / "out", gather(given | more))
        return wp.load_report(tmp_path / "out/cases" / outcome.case / str(outcome.report))

    everything = read().parts[0].completeness
    assert everything.patches_read == everything.patches_found
    report = read(leave_out=("blurred",))
    (store,) = (tmp_path / "out").glob("cases/*/slides/*/patches-*")
    blurred = int(verdicts(PatchStore(store).quality)["blurred"].sum())
    (part,) = report.parts
    assert 0 < blurred == part.plan.patches_left_out
    assert part.completeness.patches_read == part.completeness.patches_found - blurred
    assert not part.completeness.complete
    assert any(remark.endswith("of patches blurred") for remark in report.slides[0].quality)
    (outcome,) = run(cases, tmp_path / "out", gather(given | {"leave_out": ("blurred",)}))
    page = (tmp_path / "out/cases" / outcome.case / str(outcome.report) / "report.html").read_text()
    drawn = [path.partition('"')[0].count("M") for path in page.split('class="objection" d="')[1:]]
    assert drawn
    assert set(drawn) == {int(np.any(list(verdicts(PatchStore(store).quality).values()), axis=0).sum())}
    grids = [path.partition('"')[0] for path in page.split('class="grid" d="')[1:]]
    assert grids
    assert all(path.count("M") == len(PatchStore(store)) for path in grids)
    assert (
        f"{blurred} of {everything.patches_found} patches were left out for their quality" in part.completeness.gaps[0]
    )


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


@pytest.mark.parametrize("asked", [{"plan": "mixed"}, {"tokens_per_patch": 2}])
def test_what_a_checkpoint_cannot_do_is_refused_before_tiling(
    phantom_cases: Path, gemma: Path, tmp_path: Path, asked: dict[str, object]
) -> None:
    with pytest.raises(ModelError, match="trained with 4"):
        run(wp.find_cases(phantom_cases), tmp_path, gather({"model": str(gemma), **asked}))
    assert not (tmp_path / "cases").exists()


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


def test_a_part_of_which_nothing_could_be_read_says_so(phantom_cases: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_cases / "phantom-test-900001", tmp_path / "slides/case/A")
    (tmp_path / "slides/case/B").mkdir()
    (tmp_path / "slides/case/B/x.svs").write_bytes(b"broken")
    (outcome,) = run(wp.find_cases(tmp_path / "slides"), tmp_path / "out", PHANTOM)
    assert outcome.diagnoses[1] == "Part B: no diagnosis: none of its slides could be read"


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


def test_a_report_tells_patches_that_differ_from_coarser_levels_from_those_that_do_not_decode(
    tmp_path: Path, gemma: Path
) -> None:
    path = write_tiff(tmp_path / "s.svs", tissue_image(1600, 2000), "ycbcr 4:2:0", 256, factors=(4,))
    replace_tile(path, 0, 28, by=0)
    settings = gather({"model": str(gemma), "max_new_tokens": 10, "patch_size": 256, "mpp": 0.5})
    (outcome,) = run(wp.find_cases(path), tmp_path / "out", settings)
    report = wp.load_report(tmp_path / "out/cases" / outcome.case / str(outcome.report))
    (slide,) = report.slides
    (part,) = report.parts
    assert part.completeness.gaps == (f"{slide.id}: 1 patches differ from coarser levels and were left out",)
    assert (slide.patches_unreadable, slide.patches_disagreeing) == (1, 1)
