"""What the tower's tokens tell of single patches, whoever reads them: false alarms at a given share of lesions found.

python benchmarks/tower.py [--bank FOLDER] [--bank-seed S] [--normal N] [--per-lesion N] [--model NAME] [--json]

A small network is fitted to patches of one half of a bank of test slides and scores the other half. Where at most one
case in twenty of 40,000 patches is to be called diseased for nothing, one false alarm in 800,000 patches is allowed.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

import click
import machine
import numpy as np

from workflows.checkpoints import Model
from workflows.phantom.measuring.haystack import LEAST_SHOWN, build_bank
from workflows.phantom.measuring.tower import probe
from wsi_pipeline.settings import ModelSettings

FOUND = (0.8, 0.9, 0.95)
GRIDS = (1, 4)


@click.command()
@click.option("--bank-seed", default=800_000, show_default=True, help="Of the bank's slides, within the test split.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--bank", type=click.Path(path_type=Path), help="Folder where encoded slides are kept; else temporary.")
@click.option("--normal", default=100, show_default=True, help="Slides of the bank without a lesion, per organ.")
@click.option("--per-lesion", default=8, show_default=True, help="Slides of the bank per diagnosis.")
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    bank_seed: int, model: str, bank: Path | None, normal: int, per_lesion: int, workers: int, as_json: bool
) -> None:
    """Encode, probe, print."""
    with nullcontext(bank) if bank else tempfile.TemporaryDirectory(prefix="tower-") as folder:
        slides = build_bank(Path(str(folder)), Model(ModelSettings(name=model)), bank_seed, normal, per_lesion, workers)
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
    print(f"tower: model {machine.model(model)}, bank of seed {bank_seed}; lesions cover {LEAST_SHOWN:.0%} and more")
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
