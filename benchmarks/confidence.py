"""What confidence is worth: does it tell right answers from wrong ones, and what does abstaining cost?

python benchmarks/confidence.py [--seed S] [--parts N] [--model M] [--json]

Phantom parts of the test seeds, of one to twelve slides and all contrasts, go from slide files to reports. AUROC is the
chance that a right answer is given more confidence than a wrong one; the table tells, for the most confident share of
parts, how many of them are wrong. Contrast is that of lesions: parts without one are told apart.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
import machine
import numpy as np
from numpy.typing import NDArray

from workflows.phantom.measuring.confidence import CONTRASTS, SLIDES, Answer, read_answers
from workflows.phantom.measuring.scoring import auroc

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_DRAWS = 1000
BINS = (0, 0.5, 0.7, 0.9, 1.0001)


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
        print(json.dumps([asdict(a) for a in answers], indent=1))
        return
    silent = sum(a.plan is None for a in answers)
    print(
        f"confidence: seed {seed}, {len(answers)} phantom parts of 1 to 12 slides, {silent} of them without an answer"
    )
    print(f"model {machine.model(model)}")
    print(machine.describe())
    right = np.array([a.exact for a in answers])
    print(f"exact {right.mean():.3f}")
    logprob = np.array([a.signs.logprob for a in answers])
    sure = np.array([-1.0 if a.chance is None else a.chance for a in answers])
    agreement = np.array([-1.0 if a.signs.agreement is None else a.signs.agreement for a in answers])
    for name, value in {"confidence": sure, "log-probability": logprob, "agreement of samples": agreement}.items():
        print(f"AUROC of {name:22} {_area(value, right)}")
    diseased = np.array([a.diseased for a in answers])
    kinds = {f"{slides} slides": np.array([a.slides == slides for a in answers]) for slides in SLIDES}
    kinds["no lesion"] = ~diseased
    kinds |= {f"contrast {c:.2f}": np.array([a.contrast == c for a in answers]) & diseased for c in CONTRASTS}
    for name, here in kinds.items():
        if here.any():
            hits = int(right[here].sum())
            print(
                f"  {name:14} {hits:3d} of {here.sum():3d} exact, AUROC of confidence {_area(sure[here], right[here])}"
            )
    points = np.array([a.signs.points for a in answers])
    for name, here in {"names slides": points, "names none": ~points}.items():
        print(f"  answer {name:14} {right[here].sum():3d} of {here.sum():3d} exact")
    _print_coverage(answers, sure, right)
    _print_calibration(answers)


def _area(value: NDArray[np.float64], right: NDArray[np.bool_]) -> str:
    """AUROC with its 95 % interval over parts drawn anew (bootstrap)."""
    if right.all() or not right.any():
        return "–"
    random = np.random.default_rng(0)
    drawn = (random.integers(len(right), size=len(right)) for _ in range(_DRAWS))
    areas = [auroc(value[some], right[some]) for some in drawn if 0 < right[some].sum() < len(some)]
    low, high = np.quantile(areas, (0.025, 0.975))
    return f"{auroc(value, right):.3f} ({low:.3f}–{high:.3f})"


def _print_coverage(answers: list[Answer], sure: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
    benign, malignant = (np.array([getattr(a, k) for a in answers]) for k in ("called_benign", "malignant"))
    order = np.argsort(-sure, kind="stable")
    print("\n  parts answered   wrong   malignant called benign, of malignant ones answered")
    for coverage in COVERAGES:
        kept = order[: round(coverage * len(order))]
        print(f"  {coverage:>14.0%}   {1 - right[kept].mean():.3f}   {benign[kept].sum()} of {malignant[kept].sum()}")


def _print_calibration(answers: list[Answer]) -> None:
    told = [(a.chance, a.exact) for a in answers if a.chance is not None]
    if not told:
        print("\nnot calibrated for this model, plan and domain")
        return
    chance, right = np.array(told, float).T
    print(
        f"\nof {len(told)} parts with a number: Brier score {np.mean((chance - right) ** 2):.3f}, "
        f"always telling the share that is right {right.mean() * (1 - right.mean()):.3f}"
    )
    print("  confidence      n   mean   exact")
    for low, high in itertools.pairwise(BINS):
        here = (chance >= low) & (chance < high)
        if here.any():
            print(f"  {low:.1f} to {high:.1f}   {here.sum():4d}  {chance[here].mean():.3f}   {right[here].mean():.3f}")


if __name__ == "__main__":
    main()
