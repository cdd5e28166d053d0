"""Whether the same phantom case gets the same words when its slides are handled differently.

python benchmarks/robustness.py --seed S [--parts N] [--json]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click
import machine

from workflows.phantom.measuring.robustness import HANDLINGS, measure_robustness
from workflows.phantom.measuring.scoring import wilson


@click.command()
@click.option("--seed", required=True, type=int, help="First seed within the test split; docs/phantom.md: those spent.")
@click.option("--parts", default=60, show_default=True, help="Of one to twelve slides in turns.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(seed: int, parts: int, model: str, workers: int, as_json: bool) -> None:
    """Measure and print."""
    same = []
    with tempfile.TemporaryDirectory(prefix="phantom-robust-") as work:
        for row in measure_robustness(Path(work), seed, parts, model, workers):
            same.append(row)
            print(f"\r{len(same)} of {parts} parts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    counts = {handling.name: sum(row[handling.name] for row in same) for handling in HANDLINGS}
    if as_json:
        print(json.dumps({"parts": parts, "same_words": counts}, indent=1))
        return
    print(f"phantom robustness: seed {seed}, {parts} parts of 1 to 12 slides, model {machine.model(model)}")
    print(machine.describe())
    print(f"{'handling':24}{'same words, extent and slides':>32}{'95 % Wilson':>16}")
    for name, count in counts.items():
        low, high = wilson(count, parts)
        print(f"{name:24}{f'{count} of {parts}':>32}{low:>10.3f}–{high:.3f}")


if __name__ == "__main__":
    main()
