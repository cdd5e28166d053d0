"""What a second run does again, and what it leaves alone."""

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
from tests.workflows.conftest import PHANTOM, everything
from workflows.run import exit_code, read_outcomes, run
from workflows.stages import run_stage
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ModelSettings, ReportSettings, RunSettings, TileSettings, gather
from wsi_pipeline.store.outcome import CaseOutcome
from wsi_pipeline.store.paths import CaseFolder
from wsi_pipeline.store.tokens import TokenStore


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
    run(cases, tmp_path, RunSettings(model=PHANTOM.model, machine={"workers": 2, "batch_size": 5}))  # type: ignore[arg-type]
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
        "patch_size": 512, "mpp": 1.1, "mpp_tolerance": 0.01, "reader": "tiffslide", "default_mpp": 0.7,
        "force_mpp": 0.9, "allow_upsampling": True, "min_tissue": 0.2, "codec": "zstd", "jpeg_quality": 80,
    },
    "model": {"name": None, "revision": "other", "dtype": "bfloat16", "context_tokens": 16_000},
    "report": {
        "leave_out": ("dark",), "plan": "windows", "samples": 3, "max_patches": 5, "select": "farthest",
        "max_new_tokens": 300, "seed": 7, "evidence_patches": 2, "allow_incomplete": True, "domain": "here",
        "tokens_per_patch": 1, "fine_patches": 9, "zoom": "novelty",
        "order": "random", "slide_markers": False, "coordinates": True,
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
    # and how long a sequence may be is nothing to the vision tower
    special = {"revision": set(), "context_tokens": {"reports"}, "tokens_per_patch": {"tokens", "reports"}}
    expected = special.get(key, set(STAGES[group]))
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


def test_a_damaged_store_fails_its_case_not_the_night(phantom_cases: Path, copy: Path) -> None:
    shard = next(p for p in copy.glob("cases/phantom-test-900000/slides/*/patches-*/patches/c/**/*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[500] ^= 0xFF
    shard.write_bytes(data)
    outcomes = run(wp.find_cases(phantom_cases), copy, gather({"model": "phantom", "dtype": "bfloat16"}))
    assert [o.status for o in outcomes] == ["failed", "done"]
    assert "damaged" in str(outcomes[0].reason)


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


def test_keeping_less_drops_the_rest_and_keeping_more_makes_nothing(phantom_cases: Path, copy: Path) -> None:
    case = wp.find_cases(phantom_cases)[-1]
    slides = CaseFolder(copy, case.id).path / "slides"
    for retain, kept in (("tokens", {"tokens"}), ("all", {"tokens"}), ("reports", set())):
        (outcome,) = run([case], copy, gather({"model": "phantom", "retain": retain}))
        assert outcome.report == "reports/0001"
        assert {p.name.split("-")[0] for p in slides.glob("*/*.zarr")} == kept


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


def test_the_farthest_patches_are_chosen_by_tokens_of_all(phantom_cases: Path, tmp_path: Path) -> None:
    case = wp.find_cases(phantom_cases)[-1]
    settings = gather({"model": "phantom", "max_patches": 5, "select": "farthest"})
    (outcome,) = run([case], tmp_path, settings)
    report = json.loads((tmp_path / "cases" / case.id / str(outcome.report) / "report.json").read_text())
    (part,) = report["parts"]
    assert part["plan"]["patches_read"] == 5 < part["plan"]["patches_found"]
    (at_random,) = run([case], tmp_path, gather({"model": "phantom", "max_patches": 5}))
    other = json.loads((tmp_path / "cases" / case.id / str(at_random.report) / "report.json").read_text())
    assert other["parts"][0]["plan"]["windows"] != part["plan"]["windows"]


def test_tokens_of_another_revision_are_refused_by_name(phantom_cases: Path, copy: Path) -> None:
    case = wp.find_cases(phantom_cases)[-1]
    folder = CaseFolder(copy, case.id)
    (tokens,) = folder.path.glob("slides/*/tokens-*.zarr")
    known = (tokens / "zarr.json").read_text()
    (tokens / "zarr.json").write_text(known.replace(TokenStore(tokens).facts.revision, "local-0000000000000000"))
    assert TokenStore(tokens).facts.revision == "local-0000000000000000"
    shutil.rmtree(folder.reports)
    (outcome,) = run([case], copy, PHANTOM)
    assert outcome.status == "failed"
    assert tokens.name in str(outcome.reason)
    assert "another model revision" in str(outcome.reason)


def test_half_a_token_store_is_made_again(phantom_cases: Path, copy: Path) -> None:
    case = wp.find_cases(phantom_cases)[-1]
    folder = CaseFolder(copy, case.id)
    (tokens,) = folder.path.glob("slides/*/tokens-*.zarr")
    shutil.rmtree(tokens / "tokens")  # as a deletion that was stopped leaves it
    shutil.rmtree(folder.reports)
    (outcome,) = run([case], copy, PHANTOM)
    assert outcome.status == "done"
    assert len(TokenStore(tokens)) > 0


@pytest.mark.parametrize("error", [ModelError("model 'x'", "needs more memory", "use less"), ZeroDivisionError("odd")])
def test_a_stage_that_fails_keeps_what_is_known_of_slides_and_goes_on(
    phantom_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    slide = next((phantom_cases / "phantom-test-900001").iterdir())
    other = shutil.copy(slide, tmp_path / f"other{slide.suffix}")
    rows = [f"a,{slide},", f"a,{slide.parent}/gone.svs,", f"b,{other},Ki-67"]
    (tmp_path / "m.csv").write_text("case_id,slide,stain\n" + "\n".join(rows) + "\n")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("workflows.reporting.encode_case", fail)
    first, second = run_stage("encode", wp.find_cases(manifest=tmp_path / "m.csv"), tmp_path / "out", PHANTOM)
    gone, read = (first.outcomes[name] for name in sorted(first.outcomes, key=lambda name: name[:4] != "gone"))
    assert read.status == gone.status == "failed"
    assert str(error.args[-1]) in str(read.reason)
    assert "is not there" in str(gone.reason)
    assert [o.status for o in second.outcomes.values()] == ["skipped"]
