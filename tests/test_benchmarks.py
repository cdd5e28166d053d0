"""Benchmarks that no machine here can run in full, on tiny shapes."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_gpu_benchmark_runs_on_tiny_shapes() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["what"].split()[0] for row in rows] == ["encoder"] * 4 + ["prefill", "decode"] * 2
    assert all(row["measured"] > 0 and row["floor"] > 0 for row in rows)
