"""Benchmarks run from their command line, on sizes that say nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_gpu_benchmark_runs_on_tiny_shapes() -> None:
    rows = json.loads(run("gpu.py", "--small", "--json"))["rows"]
    assert [row["what"].split()[0] for row in rows] == ["encoder"] * 4 + ["prefill", "decode"] * 2
    assert all(row["measured"] > 0 and row["floor"] > 0 for row in rows)


def test_a_whole_case_of_a_few_patches_tells_every_stage(tmp_path: Path) -> None:
    told = run("whole_case.py", "--slides", "2", "--patches", "24", "--workers", "1", "--folder", str(tmp_path))
    assert re.search(r"2 slides, \d\d patches", told)
    assert re.search(r"tile +\d+\.\d s\n +encode +\d+\.\d s\n +write +\d+\.\d s\n +all", told)
    assert not list(tmp_path.iterdir())


def test_fuzzing_counts_every_input() -> None:
    told = run("fuzz_direct.py", "--inputs", "24")
    assert "24 damaged inputs of 8 slides" in told
    counts = [int(line.split()[0]) for line in told.splitlines()[2:]]
    assert sum(counts) == 24
    assert len(counts) > 1
    assert "ESCAPED" not in told
    assert "CRASHED" not in told


def test_evidence_of_one_part_is_measured_on_its_line() -> None:
    told = run("evidence.py", "--parts", "1", "--seed", "620002", "--workers", "1")
    assert "1 parts of 6 to 12 slides" in told


def test_tiling_is_measured_beside_loops_and_limits() -> None:
    name = "20X, no levels, 240 px tiles"
    rows = json.loads(run("tiling.py", "--edge", "1.6", "--slide", name, "--json"))
    assert {row["slide"] for row in rows} == {name}
    assert {"limit: decode", "limit: decode + encode", "wsi-pipeline, direct", "OpenSlide loop"} <= {
        row["method"] for row in rows
    }
    assert len({row["patches"] for row in rows}) == 1
    assert all(row["rate"] > 0 and row["peak_gib"] > 0 for row in rows)


def test_tissue_is_scored_by_patch_and_specks_by_speck() -> None:
    conditions = ("H&E", "blank glass", "IHC-like specks")
    found = json.loads(run("tissue.py", "--slides", "1", "--json", *(f"--condition={c}" for c in conditions)))
    assert found["H&E"]["hit"] > 10 * found["H&E"]["missed"]
    assert found["IHC-like specks"]["hit"] > 0
    assert set(found["blank glass"].values()) == {0}
