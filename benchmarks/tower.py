"""What the tower's tokens tell of single patches, whoever reads them: false alarms at a given share of lesions found.

python benchmarks/tower.py [--bank FOLDER] [--bank-seed S] [--normal N] [--per-lesion N] [--model NAME] [--json]

A small network is fitted to patches of one half of a bank of test slides and scores the other half. Where at most one
case in twenty of 40,000 patches is to be called diseased for nothing, one false alarm in 800,000 patches is allowed.
"""

from __future__ import annotations

import json

import click
import machine
import numpy as np
from banks import BankOptions, bank_command

from workflows.checkpoints import Model
from workflows.phantom.drawing.pool import PLAIN_FROM
from workflows.phantom.measuring.tower import probe
from wsi_pipeline.settings import ModelSettings

FOUND = (0.8, 0.9, 0.95)
GRIDS = (1, 4)


@click.command()
@bank_command
@click.option("--model", default="phantom", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(bank: BankOptions, model: str, as_json: bool) -> None:
    """Encode, probe, print."""
    with bank.built(Model(ModelSettings(name=model))) as (slides, _):
        found = {grid: probe(slides, grid) for grid in GRIDS}
    if as_json:
        rows = [
            {"tokens per patch": grid, "organ": s.organ, "lesion patches": len(s.lesion), "benign": len(s.benign)}
            | {f"false at {share}": s.false_at(share) for share in FOUND}
            for grid, scores in found.items()
            for s in scores
        ]
        print(json.dumps(rows, indent=1))
        return
    print(
        f"tower: model {machine.model(model)}, bank of seed {bank.bank_seed}; lesions cover {PLAIN_FROM:.0%} and more"
    )
    print(machine.describe())
    print("benign patches that score as high as the given share of lesion patches, per 10,000")
    print(
        f"{'T':>3}  {'organ':12}{'lesion':>8}{'benign':>8}" + "".join(f"{f'{share:.2f} found':>12}" for share in FOUND)
    )
    for grid, scores in found.items():
        for s in scores:
            told = "".join(f"{1e4 * s.false_at(share):>12.0f}" for share in FOUND)
            print(f"{grid:>3}  {s.organ:12}{len(s.lesion):>8,}{len(s.benign):>8,}{told}")
        mean = "".join(f"{1e4 * np.mean([s.false_at(share) for s in scores]):>12.0f}" for share in FOUND)
        print(f"{grid:>3}  {'mean':12}{'':>16}{mean}")


if __name__ == "__main__":
    main()
