"""What a user waits for: `--help`, the demo's pipeline part, and a second run that has nothing to do.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine


def timed(*arguments: str) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "wsi_pipeline", *arguments], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - started, done.stdout


def main() -> None:
    """Measure and print."""
    print(machine.describe())
    helps = sorted(timed("--help")[0] for _ in range(9))
    print(f"--help: median {helps[4]:.3f} s of 9 (bar 0.3 s)")
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "demo")
        whole, text = timed("demo", "--out", out)
        pipeline = text.strip().splitlines()[-1].split(" in ")[1].split(" s")[0]
        print(f"demo: pipeline part {pipeline} s (bar 60 s); with making its slides {whole:.1f} s")
        again = min(timed("demo", "--out", out)[0] for _ in range(3))
        print(f"second demo, nothing to do: {again:.2f} s (bar 3 s)")


if __name__ == "__main__":
    main()
