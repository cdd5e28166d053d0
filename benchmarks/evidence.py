"""Do the patches shown as evidence hold the lesion, and do the words depend on them?

python benchmarks/evidence.py [--seed S] [--parts N] [--model M] [--json]

Phantom parts of 6 to 12 slides with focal lesions go from slide files to reports. Counted are the lines of slides
whose lesion is named rightly, in parts where lesions are on at most 5 % of the patches. The first patch of the evidence
should show the lesion; a random patch of that slide is the comparison. Then the evidence, or as many random patches of
the slide, are taken out of the input, and the log-probability of the line is taken again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click
import machine
import numpy as np

from workflows.phantom.measuring.evidence import Look, measure_evidence
from workflows.phantom.measuring.scoring import wilson

MOST = 0.05


@click.command()
@click.option("--seed", default=620_000, show_default=True, help="First seed within the test split.")
@click.option("--parts", default=100, show_default=True)
@click.option("--model", default="phantom", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(seed: int, parts: int, model: str, workers: int, as_json: bool) -> None:
    """Read and print."""
    found: list[Look] = []
    with tempfile.TemporaryDirectory(prefix="evidence-") as work:
        for done, looks in enumerate(measure_evidence(Path(work), seed, parts, model, workers), 1):
            found += looks
            print(f"\r{done} of {parts} parts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if as_json:
        print(json.dumps([vars(look) for look in found], indent=1))
        return
    few = [look for look in found if look.lesion_share <= MOST]
    print(f"evidence: seed {seed}, {parts} parts of 6 to 12 slides, model {machine.model(model)}")
    print(machine.describe())
    print(f"{len(found)} lines name a lesion rightly, {len(few)} where lesions are on at most {MOST:.0%} of patches")
    for name, looks in (("at most 5 %", few), ("all", found)):
        if looks:
            _print(name, looks)


def _print(name: str, looks: list[Look]) -> None:
    hits = sum(look.hit for look in looks)
    low, high = wilson(hits, len(looks))
    chance = np.mean([look.slide_share for look in looks])
    top, random = (np.array([getattr(look, f"without_{k}") for look in looks]) for k in ("top", "random"))
    print(
        f"{name}: first patch in the lesion {hits / len(looks):.3f} ({low:.3f}–{high:.3f}), "
        f"a random patch of the slide {chance:.3f}"
    )
    print(
        f"  log-probability of the line falls by {top.mean():.2f} without the evidence and by {random.mean():.2f} "
        f"without as many random patches; by more in {np.mean(top > random):.3f} of lines"
    )


if __name__ == "__main__":
    main()
