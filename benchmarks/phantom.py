"""Exact diagnosis on fresh phantom cases, from slide files to report text, beside readers that see less.

python benchmarks/phantom.py [--seed S] [--parts N] [--compared N] [--earlier CHECKPOINT] [--pool FOLDER] [--json]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import machine

from workflows.phantom.evaluate import WHOLE, Readers, draw_cohort, measure, save
from workflows.phantom.scoring import BUCKETS, Score, rates
from workflows.phantom.shortcuts import train_shortcut
from workflows.phantom.train import training_pool
from wsi_pipeline.models import find_checkpoint


@click.command()
@click.option("--seed", default=0, show_default=True, help="First seed within the test split.")
@click.option("--parts", default=200, show_default=True, help="Parts per bucket.")
@click.option("--compared", type=int, help="Cases that readers who see less read, too; default all.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--earlier", help="A checkpoint of the first phantom, for a row of its own.")
@click.option("--pool", type=click.Path(path_type=Path), help="Training pool; gives the row of thumbnails.")
@click.option("--workers", default=2, show_default=True)
@click.option("--scores", type=click.Path(path_type=Path), help="File for every single score.")
@click.option("--json", "as_json", is_flag=True)
def main(
    seed: int, parts: int, compared: int | None, model: str, earlier: str | None, pool: Path | None, workers: int,
    scores: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure and print."""
    started = time.monotonic()
    thumbnail = train_shortcut("thumbnail", training_pool(pool, workers), keep=pool) if pool else None
    readers = Readers(model, earlier, thumbnail)
    cases = draw_cohort(seed, parts)
    found: list[Score] = []
    with tempfile.TemporaryDirectory(prefix="phantom-bench-") as work:
        for done, some in enumerate(measure(Path(work), cases, readers, workers, compared), 1):
            found += some
            print(f"\r{done} of {len(cases)} cases", end="", file=sys.stderr, flush=True)
            if scores:
                save(found, scores)
    print(file=sys.stderr)
    rows = {
        reader: {bucket: rates(s for s in found if s.reader == reader and s.bucket == bucket) for bucket in BUCKETS}
        for reader in dict.fromkeys(s.reader for s in found)
    }
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"phantom benchmark: seed {seed}, {len(cases)} cases, model {model}, {time.monotonic() - started:.0f} s")
    print(", ".join(f"{name}: {find_checkpoint(name).revision}" for name in (model, earlier) if name))
    print(machine.describe())
    _print(rows)
    small = [s for s in found if s.reader == WHOLE and s.small]
    print(f"{WHOLE}, focal lesions only: {sum(s.exact for s in small)} of {len(small)} exact")


def _print(rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    print(
        f"{'':27}{'':7}{'':>5}{'':>7}{'':>14}{'without':>9}{'slides':>8}{'':>8}{'organ':>7}{'malignant':>11}{'benign':>10}"
    )
    print(
        f"{'reader':27}{'slides':>7}{'n':>5}{'exact':>7}{'95 % Wilson':>14}{'grade':>9}{'named':>8}{'extent':>8}"
        f"{'wrong':>7}{'→ benign':>11}{'→ disease':>10}"
    )
    for reader, buckets in rows.items():
        for bucket, r in buckets.items():
            if r["n"]:
                print(
                    f"{reader:27}{bucket:>7}{r['n']:>5}{r['exact']:>7.3f}{r['low']:>8.3f}–{r['high']:.3f}"
                    f"{r['name']:>9.3f}{r['slides']:>8.3f}{r['extent']:>8.3f}{r['organ_wrong']:>7}"
                    f"{_rate(r['malignant_called_benign']):>11}{_rate(r['benign_called_diseased']):>10}"
                )


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
