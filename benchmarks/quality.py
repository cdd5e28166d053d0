"""Whether quality columns see what is on the glass: pen, folds and blur of phantom slides, by patch.

python benchmarks/quality.py [--seed S] [--slides N] [--json]

A patch should be objected to where a fifth of it or more shows ink or blur, or a twentieth a fold, and not where none
does. AUROC is that of the column as a sign of a twentieth or more. Blur is a region out of focus:
slides of a soft scanner are beside it, so that a column must tell soft from blurred.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import machine
import numpy as np

from tilers.quality import ALGORITHM as COLUMNS_OF
from workflows.phantom.drawing.cohort import draw_case
from workflows.phantom.drawing.contents import artefact
from workflows.phantom.drawing.pool import PoolSlide, build_pool
from workflows.phantom.measuring.scoring import auroc, wilson
from wsi_pipeline.settings import Objection
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.verdicts import verdicts

_SHOWS_FROM = 0.05
"""Of a patch."""
SIGNS: dict[Objection, tuple[str, str, int, float]] = {
    "pen": ("pen", "pen", 1, 0.2),
    "dark": ("fold", "dark", 1, _SHOWS_FROM),
    "blurred": ("blur", "focus", -1, 0.2),
}
"""By objection: what the phantom calls it, the column that tells of it, whether more or less of it does, and what share
of a patch is much."""


def scored(slides: list[PoolSlide], objection: Objection) -> dict[str, Any]:
    """How many patches that show much of it are objected to, and how many that show none; AUROC of the column."""
    content, column, sign, from_share = SIGNS[objection]
    stores = [PatchStore(slide.store) for slide in slides]
    share = np.concatenate([slide.shares[..., artefact(content)].astype(np.float32).mean((1, 2)) for slide in slides])
    value = np.concatenate([store.quality[column] for store in stores])
    objected = np.concatenate([verdicts(store.quality)[objection] for store in stores])
    much, some, clean = share >= from_share, share >= _SHOWS_FROM, share == 0
    either = some | clean
    known = 0 < some.sum() < either.sum()
    return {
        "much": int(much.sum()),
        "objected": int((objected & much).sum()),
        "clean": int(clean.sum()),
        "false": int((objected & clean).sum()),
        "some": int(some.sum()),
        "auroc": round(auroc(sign * value[either], some[either]), 4) if known else None,
    }


@click.command()
@click.option("--seed", default=767_000, show_default=True, help="First seed within the test split.")
@click.option("--slides", default=160, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(seed: int, slides: int, workers: int, as_json: bool) -> None:
    """Make, tile, score, print."""
    specs = [draw_case(seed + n, "test", slides=1).parts[0].slides[0] for n in range(slides)]
    made: list[PoolSlide] = []
    with tempfile.TemporaryDirectory(prefix="quality-") as work:
        for slide in build_pool(Path(work), specs, workers):
            made.append(slide)
            print(f"\r{len(made)} of {slides} slides", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        found = {objection: scored(made, objection) for objection in SIGNS}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print(f"quality columns: seed {seed}, {len(made)} phantom slides, patches of 768 px at 1 µm/px")
    print(f"{machine.describe()}, columns {COLUMNS_OF}")
    heads = (
        f"{'patches':>9}{'objected to':>13}{'95 % Wilson':>14}{'clean':>8}{'false':>7}{'showing some':>14}{'AUROC':>8}"
    )
    print(f"{'objection':12}{'of':8}{heads}")
    for objection, row in found.items():
        low, high = wilson(row["objected"], row["much"]) if row["much"] else (0, 1)
        area = "–" if row["auroc"] is None else f"{row['auroc']:.3f}"
        print(
            f"{objection:12}{SIGNS[objection][0]:8}{row['much']:>9}{row['objected']:>13}{low:>8.3f}–{high:.3f}"
            f"{row['clean']:>8}{row['false']:>7}{row['some']:>14}{area:>8}"
        )


if __name__ == "__main__":
    main()
