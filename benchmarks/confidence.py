"""What confidence is worth: does it tell right answers from wrong ones, and what does abstaining cost?

python benchmarks/confidence.py [--seed S] [--parts N] [--model M] [--json]

Phantom parts of the test seeds, of one to twelve slides and all contrasts, go from slide files to reports. AUROC is the
chance that a right answer is given more confidence than a wrong one; the table tells, for the most confident share of
parts, how many of them are wrong.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path

import click
import machine
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from workflows.phantom.sureness import CONTRASTS, Answer, read_answers

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
BINS = (0, 0.5, 0.7, 0.9, 1.0001)


def auroc(value: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Of `value` as a sign of `right` (Mann-Whitney)."""
    ranks = rankdata(value)
    n, m = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - n * (n + 1) / 2) / (n * m))


@click.command()
@click.option("--seed", default=600_000, show_default=True, help="First seed within the test split.")
@click.option("--parts", default=312, show_default=True)
@click.option("--model", default="phantom", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(seed: int, parts: int, model: str, workers: int, as_json: bool) -> None:
    """Read and print."""
    answers: list[Answer] = []
    with tempfile.TemporaryDirectory(prefix="confidence-") as work:
        for answer in read_answers(Path(work), "test", seed, parts, model, workers):
            answers.append(answer)
            print(f"\r{len(answers)} of {parts} parts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if as_json:
        print(json.dumps([vars(a) for a in answers], indent=1))
        return
    print(f"confidence: seed {seed}, {len(answers)} phantom parts of 1 to 12 slides, model {machine.model(model)}")
    print(machine.describe())
    right = np.array([a.exact for a in answers])
    logprob = np.array([a.logprob for a in answers])
    print(f"exact {right.mean():.3f}; AUROC of the answer's log-probability {auroc(logprob, right):.3f}")
    for contrast in CONTRASTS:
        here = np.array([a.contrast == contrast for a in answers])
        area = auroc(logprob[here], right[here]) if 0 < right[here].sum() < here.sum() else float("nan")
        print(f"  contrast {contrast:4.2f}: n {here.sum():3d}, exact {right[here].mean():.3f}, AUROC {area:.3f}")
    _print_coverage(answers, logprob, right)
    _print_calibration(answers, right)


def _print_coverage(answers: list[Answer], logprob: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
    benign = np.array([a.called_benign for a in answers])
    order = np.argsort(-logprob)
    print("\n  parts answered   wrong   malignant called benign, of all parts answered")
    for coverage in COVERAGES:
        kept = order[: round(coverage * len(order))]
        print(f"  {coverage:>14.0%}   {1 - right[kept].mean():.3f}   {benign[kept].mean():.3f}")


def _print_calibration(answers: list[Answer], right: NDArray[np.bool_]) -> None:
    if any(a.chance is None for a in answers):
        print("\nnot calibrated for this model, plan and domain")
        return
    chance = np.array([a.chance for a in answers], float)
    print(f"\nBrier score {np.mean((chance - right) ** 2):.3f}")
    print("  confidence      n   mean   exact")
    for low, high in itertools.pairwise(BINS):
        here = (chance >= low) & (chance < high)
        if here.any():
            print(f"  {low:.1f} to {high:.1f}   {here.sum():4d}  {chance[here].mean():.3f}   {right[here].mean():.3f}")


if __name__ == "__main__":
    main()
