"""What of a case was read, and that the rest is told."""

import json
import re
import shutil
from pathlib import Path

import numpy as np

import wsi_pipeline as wp
from reporters.safety import WITHHELD
from reporters.schema import Completeness, Report
from tests.conftest import tissue_image
from tests.tilers.tiffs import replace_tile, write_tiff
from tests.workflows.conftest import PHANTOM
from workflows.run import exit_code, run
from wsi_pipeline.settings import gather
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.verdicts import verdicts


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
    assert page.split("measurements and quality</h3>")[1].count("of patches blurred") == 1
    assert page.count('class="outline" d="M') == 1
    grids = [path.partition('"')[0] for path in page.split('class="grid" d="')[1:]]
    assert grids
    assert all(path.count("M") == len(PatchStore(store)) for path in grids)
    assert (
        f"{blurred} of {everything.patches_found} patches were left out for their quality" in part.completeness.gaps[0]
    )


def test_a_part_of_which_nothing_could_be_read_says_so(phantom_cases: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_cases / "phantom-test-900001", tmp_path / "slides/case/A")
    (tmp_path / "slides/case/B").mkdir()
    (tmp_path / "slides/case/B/x.svs").write_bytes(b"broken")
    (outcome,) = run(wp.find_cases(tmp_path / "slides"), tmp_path / "out", PHANTOM)
    assert outcome.diagnoses[1] == "Part B: no diagnosis: none of its slides could be read"


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


def test_tissue_in_no_patch_leaves_a_part_incomplete_and_a_mask_is_named(
    make_slide, gemma: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    path = make_slide()
    (tmp_path / "region.geojson").write_text(
        json.dumps({"type": "Polygon", "coordinates": [[[300, 300], [1200, 300], [1200, 1200], [300, 300]]]})
    )
    (tmp_path / "m.csv").write_text(f"case_id,slide,mask\nc,{path},region.geojson\n")
    given = {"model": str(gemma), "max_new_tokens": 10, "patch_size": 128}

    def read(**more: object) -> Completeness:
        cases = wp.find_cases(manifest=tmp_path / "m.csv")
        (outcome,) = run(cases, tmp_path / "out", gather(given | more))
        (part,) = wp.load_report(tmp_path / "out/cases/c" / str(outcome.report)).parts
        return part.completeness

    usual, strict = read(min_tissue=0.01), read(min_tissue=0.95)
    (drawn,) = usual.gaps
    assert usual.complete
    assert drawn.endswith(": only what is drawn in region.geojson was looked at")
    assert not strict.complete
    assert strict.gaps[1] == drawn
    assert re.search(r": \d+% of its tissue lies in no patch \(--min-tissue\)", strict.gaps[0])
