"""Benchmarks run from their command line, on sizes that say nothing."""

import json
import re
from pathlib import Path

from tests.benchmarks import run_benchmark


def test_the_gpu_benchmark_runs_on_tiny_shapes() -> None:
    rows = json.loads(run_benchmark("gpu.py", "--small", "--json"))["rows"]
    assert [row["what"].split()[0] for row in rows] == ["encoder"] * 4 + ["prefill", "decode"] * 2 + ["prefill"]
    assert all(row["measured"] > 0 and row["floor"] > 0 for row in rows)


def test_a_whole_case_of_a_few_patches_tells_every_stage(tmp_path: Path) -> None:
    told = run_benchmark(
        "whole_case.py", "--slides", "2", "--patches", "24", "--workers", "1", "--folder", str(tmp_path)
    )
    assert re.search(r"2 slides, \d\d patches", told)
    assert re.search(r"tile +\d+\.\d s.*\n +encode +\d+\.\d s.*\n +write +\d+\.\d s +\d+\.\d\d GiB.*\n +all", told)
    assert not list(tmp_path.iterdir())


def test_evidence_of_one_part_is_measured_on_its_line() -> None:
    told = run_benchmark("evidence.py", "--parts", "1", "--seed", "620002", "--workers", "1")
    assert "1 parts of 6 to 12 slides" in told
    assert re.search(r"\n[1-9] lines name a lesion rightly", told)
    assert re.search(r"all: first patch in the lesion \d\.\d{3}", told)
    falls = re.search(r"falls by (\S+) without the evidence and by (\S+) without as many random patches", told)
    assert falls
    assert float(falls[1]) > float(falls[2])
