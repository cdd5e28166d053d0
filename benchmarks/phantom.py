"""Exact diagnosis on fresh phantom cases, from slide files to report text, against one random slide.

python benchmarks/phantom.py [--seed S] [--cases N] [--json]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import click
import machine

from workflows.phantom.evaluate import measure, table


@click.command()
@click.option("--seed", default=0, show_default=True, help="First seed within the test split.")
@click.option("--cases", default=100, show_default=True, help="Shared out over the buckets in turn.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(seed: int, cases: int, model: str, workers: int, as_json: bool) -> None:
    """Measure and print."""
    started = time.monotonic()
    scores = []
    with tempfile.TemporaryDirectory(prefix="phantom-bench-") as work:
        for done, pair in enumerate(measure(Path(work), seed, cases, model, workers), 1):
            scores.append(pair)
            print(f"\r{done} of {cases} cases", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    found = {"buckets": table(s for s, _ in scores), "one_random_slide": table(s for _, s in scores)}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print(f"phantom benchmark: seed {seed}, {cases} cases, model {model}, {time.monotonic() - started:.0f} s")
    print(machine.describe())
    print(f"{'':18}{'slides':>7}{'n':>5}{'exact':>8}{'95 % Wilson':>16}{'slides named':>14}{'malignant→benign':>18}")
    for name, rows in (("whole case", found["buckets"]), ("one random slide", found["one_random_slide"])):
        for bucket, r in rows.items():
            if r["n"]:
                interval = f"{r['low']:.3f}–{r['high']:.3f}"
                print(
                    f"{name:18}{bucket:>7}{r['n']:>5}{r['exact']:>8.3f}{interval:>16}{r['slides_named']:>14.3f}"
                    f"{r['malignant_called_benign']:>18.3f}"
                )
    every = [s for s, _ in scores]
    print(
        f"all: {sum(s.exact for s in every)} of {len(every)} exact with the whole case, "
        f"{sum(s.exact for _, s in scores)} with one random slide"
    )


if __name__ == "__main__":
    main()
