"""The main job from slide files to published reports."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wsi_pipeline as wp
from reporters.safety import WITHHELD
from workflows.run import exit_code, read_outcomes, run
from wsi_pipeline.errors import ModelError, StoreError, UsageError
from wsi_pipeline.settings import ModelSettings, ReportSettings, RunSettings, TileSettings, gather
from wsi_pipeline.store.outcome import CaseOutcome
from wsi_pipeline.store.paths import CaseFolder

PHANTOM = RunSettings(model=ModelSettings(name="phantom"))


def one(outcomes: list[CaseOutcome], case: str) -> CaseOutcome:
    return next(o for o in outcomes if o.case == case)


@pytest.fixture(scope="module")
def finished(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CaseOutcome]]:
    out = tmp_path_factory.mktemp("out")
    return out, run(wp.find_cases(phantom_cases), out, PHANTOM)


@pytest.fixture
def copy(finished: tuple[Path, list[CaseOutcome]], tmp_path: Path) -> Path:
    return shutil.copytree(finished[0], tmp_path / "out", copy_function=shutil.copy2)


def everything(out: Path) -> dict[str, int]:
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


def test_every_case_ends_with_the_right_report(phantom_cases: Path, finished: tuple[Path, list[CaseOutcome]]) -> None:
    out, outcomes = finished
    assert exit_code(outcomes) == 0
    for truth in json.loads((phantom_cases / "truth.json").read_text())["cases"]:
        outcome = one(outcomes, truth["case"])
        assert outcome.status == "done"
        assert outcome.diagnoses[0].endswith(truth["diagnosis"])
        folder = out / "cases" / truth["case"] / str(outcome.report)
        report = wp.load_report(folder)
        shown = {s["file"].split(".")[0] for s in truth["slides"] if s["lesion"] or truth["diagnosis"].startswith("B")}
        assert {s.rsplit("-", 1)[0] for s in report.parts[0].seen_on} == shown
        page, text = (folder / "report.html").read_text(), (folder / "report.txt").read_text()
        assert truth["diagnosis"] in page
        assert truth["diagnosis"] in text
        assert "Preliminary" in page
        done = report.parts[0].completeness
        assert f"{done.patches_read} of {done.patches_found} patches read" in text
        assert done.patches_read == done.patches_found > 0
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


def test_a_second_run_touches_nothing(phantom_cases: Path, copy: Path) -> None:
    before = everything(copy)
    again = run(wp.find_cases(phantom_cases), copy, PHANTOM)
    after = everything(copy)
    assert [o.status for o in again] == ["done", "done"]
    assert {k: v for k, v in after.items() if k != "index.html"} == {
        k: v for k, v in before.items() if k != "index.html"
    }


def test_the_same_work_elsewhere_has_the_same_content(
    phantom_cases: Path, finished: tuple[Path, list[CaseOutcome]], tmp_path: Path
) -> None:
    out, outcomes = finished
    cases = wp.find_cases(phantom_cases)
    run(cases, tmp_path, RunSettings(model=PHANTOM.model, machine={"workers": 2, "batch_size": 16}))  # type: ignore[arg-type]
    for outcome in outcomes:
        a, b = (
            json.loads((root / "cases" / outcome.case / str(outcome.report) / "report.json").read_text())
            for root in (out, tmp_path)
        )
        assert a.pop("run") != b.pop("run")
        assert a == b


STAGES = {"tile": ("patches", "tokens", "reports"), "model": ("tokens", "reports"), "report": ("reports",)}
CHANGES = {
    "tile": {
        "patch_size": 512, "mpp": 1.1, "reader": "tiffslide", "default_mpp": 0.7, "force_mpp": 0.9,
        "allow_upsampling": True, "min_tissue": 0.2, "codec": "zstd", "jpeg_quality": 80,
    },
    "model": {"name": None, "revision": "other", "dtype": "bfloat16"},
    "report": {
        "plan": "windows", "max_patches": 5, "max_new_tokens": 300, "seed": 7, "evidence_patches": 2,
        "allow_incomplete": True,
    },
}  # fmt: skip


def made(folder: CaseFolder) -> dict[str, set[str]]:
    slides = [p.name for p in folder.path.glob("slides/*/*")]
    return {
        "patches": {n for n in slides if n.startswith("patches")},
        "tokens": {n for n in slides if n.startswith("tokens")},
        "reports": {p.name for p in folder.report_folders()},
    }


def test_every_setting_is_varied_here() -> None:
    for name, kind in (("tile", TileSettings), ("model", ModelSettings), ("report", ReportSettings)):
        assert set(CHANGES[name]) == set(kind.model_fields)


@pytest.mark.parametrize(("group", "key"), [(g, k) for g, keys in CHANGES.items() for k in keys])
def test_changing_one_setting_redoes_what_depends_on_it(
    phantom_cases: Path, copy: Path, gemma: Path, group: str, key: str
) -> None:
    case = wp.find_cases(phantom_cases)[-1]
    folder = CaseFolder(copy, case.id)
    before = made(folder)
    value = CHANGES[group][key] if (group, key) != ("model", "name") else str(gemma)
    changed = PHANTOM.model_dump()
    changed[group][key] = value
    run([case], copy, RunSettings.model_validate(changed))
    after = made(folder)
    redone = {kind for kind in before if after[kind] - before[kind]}
    # a local checkpoint has no hub revision: its content names it, so nothing depends on the word
    expected = set() if (group, key) == ("model", "revision") else set(STAGES[group])
    assert redone == expected
    assert not any(before[kind] - after[kind] for kind in before)


def test_machine_settings_redo_nothing(phantom_cases: Path, copy: Path) -> None:
    before = everything(copy / "cases")
    run(
        wp.find_cases(phantom_cases),
        copy,
        gather({"model": "phantom", "workers": 2, "batch_size": 3, "tile_memory_gib": 3}),
    )
    assert everything(copy / "cases") == before


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


def test_a_slide_that_changes_part_changes_the_report(phantom_cases: Path, tmp_path: Path) -> None:
    """The broken slide moves from A to B: B's denial must go, A's come back."""
    well = next((phantom_cases / "phantom-test-900001").iterdir())
    for name in ("a", "b"):
        shutil.copy(well, tmp_path / f"{name}{well.suffix}")
    with (tmp_path / f"b{well.suffix}").open("ab") as file:
        file.write(b"not a twin")
    (tmp_path / "broken.svs").write_bytes(b"broken")
    told = []
    for part in "AB":
        rows = [f"c,a{well.suffix},A", f"c,b{well.suffix},B", f"c,broken.svs,{part}"]
        (tmp_path / "m.csv").write_text("case_id,slide,part\n" + "\n".join(rows) + "\n")
        (outcome,) = run(wp.find_cases(manifest=tmp_path / "m.csv"), tmp_path / "out", PHANTOM)
        told.append(["Withheld" in line for line in outcome.diagnoses])
    assert told == [[True, False], [False, True]]


def test_a_part_of_which_nothing_could_be_read_says_so(phantom_cases: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_cases / "phantom-test-900001", tmp_path / "slides/case/A")
    (tmp_path / "slides/case/B").mkdir()
    (tmp_path / "slides/case/B/x.svs").write_bytes(b"broken")
    (outcome,) = run(wp.find_cases(tmp_path / "slides"), tmp_path / "out", PHANTOM)
    assert outcome.diagnoses[1] == "Part B: no diagnosis: none of its slides could be read"


def test_a_damaged_store_fails_its_case_not_the_night(phantom_cases: Path, copy: Path) -> None:
    shard = next(p for p in copy.glob("cases/phantom-test-900000/slides/*/patches-*/patches/c/**/*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[500] ^= 0xFF
    shard.write_bytes(data)
    outcomes = run(wp.find_cases(phantom_cases), copy, gather({"model": "phantom", "dtype": "bfloat16"}))
    assert [o.status for o in outcomes] == ["failed", "done"]
    assert "damaged" in str(outcomes[0].reason)


def test_an_unexpected_error_fails_its_case_not_the_night(
    phantom_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import workflows.case

    def stumble(work: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(workflows.case, "tile_case", stumble)
    outcomes = run(wp.find_cases(phantom_cases), tmp_path, PHANTOM)
    assert [o.reason for o in outcomes] == ["unexpected ZeroDivisionError: odd"] * 2


def test_a_broken_slide_does_not_redo_what_was_dropped(phantom_cases: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_cases / "phantom-test-900001", tmp_path / "slides/case")
    (tmp_path / "slides/case/broken.svs").write_bytes(b"broken")
    settings = gather({"model": "phantom", "retain": "reports"})
    first = run(wp.find_cases(tmp_path / "slides"), tmp_path / "out", settings)
    before = everything(tmp_path / "out/cases")
    again = run(wp.find_cases(tmp_path / "slides"), tmp_path / "out", settings)
    assert everything(tmp_path / "out/cases") == before
    assert [o.status for o in first + again] == ["incomplete"] * 2


@pytest.mark.parametrize(
    ("retain", "kept"), [("reports", set()), ("tokens", {"tokens"}), ("all", {"tokens", "patches"})]
)
def test_retain(phantom_cases: Path, tmp_path: Path, retain: str, kept: set[str]) -> None:
    case = wp.find_cases(phantom_cases)[-1]
    settings = gather({"model": "phantom", "retain": retain})
    run([case], tmp_path, settings)
    assert {p.name.split("-")[0] for p in tmp_path.glob("cases/*/slides/*/*.zarr")} == kept
    (again,) = run([case], tmp_path, settings)
    assert again.report == "reports/0001"


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


def test_a_full_disk_fails_the_case_and_publishes_nothing(
    phantom_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    import workflows.tiling
    from wsi_pipeline.store.publish import disk_error

    def full(*arguments: object, **more: object) -> None:
        raise disk_error(tmp_path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    monkeypatch.setattr(workflows.tiling, "supervised", full)
    outcomes = run(wp.find_cases(phantom_cases), tmp_path, PHANTOM)
    assert {o.status for o in outcomes} == {"failed"}
    assert "No space left" in str(outcomes[0].reason)
    assert exit_code(outcomes) == 1
    monkeypatch.undo()
    assert {o.status for o in run(wp.find_cases(phantom_cases), tmp_path, PHANTOM)} == {"done"}


def test_killed_half_way_it_goes_on_where_it_was(phantom_cases: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "wsi_pipeline",
        "run",
        str(phantom_cases),
        "--out",
        str(tmp_path),
        "--model",
        "phantom",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("cases/*/slides/*/patches-????????????????.zarr")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    published = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cases/*/slides/*/*.zarr")}
    assert published
    outcomes = run(wp.find_cases(phantom_cases), tmp_path, PHANTOM)
    assert {o.status for o in outcomes} == {"done"}
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in published.items())
    assert not list(tmp_path.rglob("*.partial*"))
    assert {o.status for o in read_outcomes(tmp_path)} == {"done"}
