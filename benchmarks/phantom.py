"""Exact diagnosis on fresh phantom cases, from slide files to report text, beside readers that see less.

python benchmarks/phantom.py --seed S [--parts N] [--compared N] [--earlier CHECKPOINT] [--pool FOLDER] [--keep FOLDER]
                             [--json]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import click
import machine

from workflows.phantom.drawing.cohort import BUCKETS
from workflows.phantom.measuring.reports import (
    ALL_BENIGN,
    EARLIER,
    THUMBNAIL,
    WHOLE,
    WHOLE_BESIDE,
    Readers,
    draw_cohort,
    measure,
    save,
)
from workflows.phantom.measuring.scoring import Rate, Score, rates
from workflows.phantom.measuring.shortcuts import train_shortcut
from workflows.phantom.training.train import training_pool
from wsi_pipeline.models import find_checkpoint

NO_EXTENT = (ALL_BENIGN, THUMBNAIL, EARLIER)
"""Readers that say no extent."""
REPORTS = (WHOLE, WHOLE_BESIDE)
"""Read as reports, with a line for every slide; the others as drafts."""
NOTES = """\
exact, diseased: of parts that show a lesion. spotless: exact, slides and extents right, every slide's line right, and
no contradiction; told of reports only. These may abstain, too, and count as wrong where they do. Who calls everything
benign and who reads thumbnails are told the organ. These, and the first checkpoint, are not asked for extents;
thumbnails name one diagnosis where parts may have two. A slide holds some 14 patches: 126 of one are all of it."""


@click.command()
@click.option("--seed", required=True, type=int, help="First seed within the test split; docs/phantom.md: those spent.")
@click.option("--parts", default=200, show_default=True, help="Parts per bucket.")
@click.option("--compared", type=int, help="Cases that readers who see less read, too; default all.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--earlier", help="A checkpoint of the first phantom, for a row of its own.")
@click.option("--pool", type=click.Path(path_type=Path), help="Training pool; gives the row of thumbnails.")
@click.option("--keep", type=click.Path(path_type=Path), help="Slides and stores stay there.")
@click.option("--workers", default=2, show_default=True)
@click.option("--scores", type=click.Path(path_type=Path), help="File for every single score.")
@click.option("--json", "as_json", is_flag=True)
def main(
    seed: int, parts: int, compared: int | None, model: str, earlier: str | None, pool: Path | None, keep: Path | None,
    workers: int, scores: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure and print."""
    started = time.monotonic()
    thumbnail = train_shortcut("thumbnail", training_pool(pool, workers), keep=pool) if pool else None
    readers = Readers(model, earlier, thumbnail)
    cases = draw_cohort(seed, parts)
    found: list[Score] = []
    with nullcontext(keep) if keep else tempfile.TemporaryDirectory(prefix="phantom-bench-") as work:
        for done, some in enumerate(measure(Path(work), cases, readers, workers, compared, keep is not None), 1):
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
        print(json.dumps(rows, indent=1, default=asdict))
        return
    took = time.monotonic() - started
    print(f"phantom benchmark: seed {seed}, {len(cases)} cases, model {machine.model(model)}, {took:.0f} s")
    if earlier:
        print(f"{EARLIER}: {find_checkpoint(earlier).revision}")
    print(f"readers that see less read the first {compared or len(cases)} cases; who calls everything benign, all")
    print(machine.describe())
    _print(rows)
    small = [s for s in found if s.reader == WHOLE and s.small]
    print(f"{WHOLE}, focal lesions only: {sum(s.exact for s in small)} of {len(small)} exact")
    whole = [s for s in found if s.reader == WHOLE]
    total = rates(whole)
    print(
        f"{WHOLE}, in all: malignant called benign {_at_most(total['malignant called benign'])}, abstained "
        f"{_count(total['abstained'])}, organ wrong {total['organ wrong'].hits}"
    )


def _print(rows: dict[str, dict[str, dict[str, Rate]]]) -> None:
    print(
        f"{'':27}{'':>7}{'':>5}{'':>21}{'exact,':>13}{'without':>9}{'':>21}{'':>8}{'':>10}{'organ':>7}"
        f"{'malignant → benign':>27}{'benign →':>11}{'':>8}\n"
        f"{'reader':27}{'slides':>7}{'n':>5}{'exact':>7} {'95 % Wilson':13}{'diseased':>13}{'grade':>9}"
        f"{'named':>7} {'95 % Wilson':13}{'extent':>8}{'spotless':>10}{'wrong':>7}{'(95 % at most)':>27}"
        f"{'diseased':>11}{'silent':>8}"
    )
    for reader, buckets in rows.items():
        for bucket, r in buckets.items():
            if not r["exact"].of:
                continue
            print(
                f"{reader:27}{bucket:>7}{r['exact'].of:>5}{_share(r['exact'])}{_count(r['exact, diseased']):>13}"
                f"{r['name'].share:>9.3f}{_share(r['slides'])}{_given(r['extent'], reader not in NO_EXTENT):>8}"
                f"{_given(r['spotless'], reader in REPORTS):>10}{r['organ wrong'].hits:>7}"
                f"{_at_most(r['malignant called benign']):>27}{_count(r['benign called diseased']):>11}"
                f"{r['silent'].hits:>8}"
            )
    print(NOTES)


def _share(rate: Rate) -> str:
    return f"{rate.share:>7.3f} {rate.low:>5.3f}–{rate.high:.3f}  "


def _given(rate: Rate, said: bool) -> str:
    return f"{rate.share:.3f}" if said else "–"


def _at_most(rate: Rate) -> str:
    return f"{_count(rate)} ({rate.high:.3f})" if rate.of else "–"


def _count(rate: Rate) -> str:
    return f"{rate.hits} of {rate.of}" if rate.of else "–"


if __name__ == "__main__":
    main()
