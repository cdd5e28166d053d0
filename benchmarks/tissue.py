"""Recall and precision of tissue detection on hard glass, by patch; specks by speck.

python benchmarks/tissue.py [--seed S] [--slides N] [--condition C …] [--json]

A patch holds tissue from 5 % coverage of the truth on; patches with less, but some, are not scored.
"""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import machine
import numpy as np
from numpy.typing import NDArray

from tilers.grid import tissue_fractions
from tilers.survey import Survey, survey
from workflows.phantom.drawing.glass import BLANK, CONDITIONS, SPECKS, make_glass
from workflows.phantom.drawing.tissue import FIELD_MPP
from wsi_pipeline.cases import Slide
from wsi_pipeline.settings import TileSettings

Counts = dict[str, int]

_MIDDLE_UM = 15.0
"""From the centre of a speck, each way; specks are 35 µm across and more."""


def score(condition: str, seed: int) -> Counts:
    """Hits, misses and false patches of one slide; for specks, by speck."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.svs"
        truth = make_glass(path, condition, seed)
        found = survey(Slide("s", path), TileSettings())
        found.reader.close()
    kept = np.zeros(found.grid.rows * found.grid.columns, bool)
    kept[found.candidates] = True
    share = tissue_fractions(truth.tissue, found.grid)
    if condition == SPECKS:
        centres = truth.specks * FIELD_MPP / found.resolution.mpp
        hit = np.array([_touched(centre, found, kept) for centre in centres], bool)
        return {"hit": int(hit.sum()), "missed": int((~hit).sum()), "false": int((kept & (share == 0)).sum())}
    return {
        "hit": int((kept & (share >= 0.05)).sum()),
        "missed": int((~kept & (share >= 0.05)).sum()),
        "false": int((kept & (share == 0)).sum()),
    }


def _touched(centre: NDArray[np.float64], found: Survey, kept: NDArray[np.bool_]) -> bool:
    """Whether a kept patch reaches into the middle of a speck, which may lie on the border of two."""
    around = centre + _MIDDLE_UM / found.resolution.mpp * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    last = [found.grid.rows - 1, found.grid.columns - 1]
    row, column = np.clip(around // found.grid.step, 0, last).astype(int).T
    return bool(kept[row * found.grid.columns + column].any())


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option("--slides", default=6, show_default=True, help="Per condition.")
@click.option("--condition", "conditions", multiple=True, type=click.Choice([*CONDITIONS, SPECKS, BLANK]), help="[all]")
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(seed: int, slides: int, conditions: tuple[str, ...], workers: int, as_json: bool) -> None:
    """Make, survey, print."""
    jobs = [(condition, seed + n) for condition in conditions or (*CONDITIONS, SPECKS, BLANK) for n in range(slides)]
    with ProcessPoolExecutor(workers) as pool:
        counts = list(pool.map(score, *zip(*jobs, strict=True)))
    total: dict[str, Counts] = {}
    for (condition, _), some in zip(jobs, counts, strict=True):
        sums = total.setdefault(condition, dict.fromkeys(some, 0))
        for name, number in some.items():
            sums[name] += number
    if as_json:
        print(json.dumps(total, indent=1))
        return
    print(f"tissue detection: seed {seed}, {slides} slides per condition")
    print(machine.describe())
    print(f"{'':20}{'scored':>8}{'recall':>9}{'false':>7}{'precision':>11}")
    for condition, c in total.items():
        wanted, kept = c["hit"] + c["missed"], c["hit"] + c["false"]
        recall = f"{c['hit'] / wanted:.3f}" if wanted else "–"
        # specks are counted by speck, and what is false by patch
        precision = f"{c['hit'] / kept:.3f}" if kept and wanted and condition != SPECKS else "–"
        print(f"{condition:20}{wanted:>8}{recall:>9}{c['false']:>7}{precision:>11}")


if __name__ == "__main__":
    main()
