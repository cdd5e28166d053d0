"""What must not work on phantoms with a small lesion, what does, and where the lesion disappears.

python benchmarks/shortcuts.py --pool FOLDER [--seed S] [--each N] [--json]
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import machine
import numpy as np

from workflows.checkpoints import Model
from workflows.phantom.measuring.novelty import found_by, novelty_trials, plain_features, tower_features
from workflows.phantom.measuring.scoring import wilson
from workflows.phantom.measuring.shortcuts import KINDS, chance, right_diagnosis, train_shortcut
from workflows.phantom.measuring.single_slides import CONTRASTS, LESIONS, benign_slides, model_right, small_lesions
from workflows.phantom.training.train import training_pool
from wsi_pipeline.settings import ModelSettings

_CHOSEN = 0.1
_TRIES = 3


@click.command()
@click.option("--pool", required=True, type=click.Path(path_type=Path), help="Training pool, made where it is not.")
@click.option("--seed", default=700_000, show_default=True, help="First seed within the test split.")
@click.option("--each", default=12, show_default=True, help="Slides per lesion.")
@click.option("--sweep", default=5, show_default=True, help="Slides per lesion at each lower contrast.")
@click.option("--model", default="phantom", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(pool: Path, seed: int, each: int, sweep: int, model: str, workers: int, as_json: bool) -> None:
    """Measure and print."""
    reader = Model(ModelSettings(name=model))
    with tempfile.TemporaryDirectory(prefix="phantom-shortcuts-") as folder:
        work = Path(folder)
        cases = small_lesions(work / "small", seed, each, workers)
        benign = benign_slides(work / "benign", seed + 10_000, 16, workers)
        slides = [case.slide for case in cases]
        trained = training_pool(pool, workers)
        known = [slide for slide in trained if slide.diagnosis != slide.organ.benign]
        right, learnt = {}, {}
        for kind in KINDS:
            # the best on the test slides themselves: a limit must hold for the luckiest, too
            tries = [train_shortcut(kind, trained, seed, keep=pool) for seed in range(_TRIES)]
            best = max(tries, key=lambda shortcut: right_diagnosis(shortcut, slides))
            right[f"classifier of the {kind}"] = right_diagnosis(best, slides)
            learnt[kind] = right_diagnosis(best, known) / len(known)
        contrasts = {1.0: (model_right(reader, cases, work / "small"), len(cases))}
        for number, contrast in enumerate(CONTRASTS[1:], 1):
            at = work / f"contrast-{contrast}"
            some = small_lesions(at, seed + 20_000 * number, sweep, workers, contrast)
            contrasts[contrast] = (model_right(reader, some, at), len(some))
        plain = {s.store: plain_features(s) for s in [*slides, *benign]}
        tower = {s.store: tower_features(reader, s, work / "small") for s in [*slides, *benign]}
        found: dict[str, list[bool]] = {"random": [], "farthest, plain features": [], "farthest, tokens": []}
        for trial, (together, lesion) in enumerate(novelty_trials(cases, benign)):
            by_plain, by_token = (np.concatenate([table[s.store] for s in together]) for table in (plain, tower))
            found["random"].append(found_by("random", lesion, by_plain, _CHOSEN, trial))
            found["farthest, plain features"].append(found_by("farthest", lesion, by_plain, _CHOSEN, trial))
            found["farthest, tokens"].append(found_by("farthest", lesion, by_token, _CHOSEN, trial))
    result: dict[str, Any] = {
        "n": len(cases),
        "chance": chance(slides),
        "right": right,
        "right on slides they learnt from": learnt,
        "contrast": contrasts,
        "found": {name: sum(hits) for name, hits in found.items()},
    }
    if as_json:
        print(json.dumps(result, indent=1))
        return
    print(
        f"phantom shortcuts: {len(cases)} slides with one focal lesion, {len(LESIONS)} lesions; seed {seed}, "
        f"model {machine.model(model)}, {len(trained):,} slides to learn from"
    )
    print(machine.describe())
    print("\nexact diagnosis; classifiers are told the organ and that there is a lesion, the model neither")
    print(f"  {'chance':28}{result['chance']:.3f}")
    for name, hits in {**right, f"model {Path(model).name}": contrasts[1.0][0]}.items():
        print(_row(name, hits, len(cases)))
    told = ", ".join(f"{kind} {share:.3f}" for kind, share in learnt.items())
    print(f"  (the best of {_TRIES} of each; on the {len(known):,} slides with a lesion that they learnt from: {told})")
    print("\nexact diagnosis of the model by contrast of the lesion")
    for contrast, (hits, of) in contrasts.items():
        print(_row(f"{contrast:.2f}", hits, of))
    print(f"\na lesion patch is among {_CHOSEN:.0%} of the patches of 12 slides, chosen by")
    for name, hits in result["found"].items():
        print(_row(name, hits, len(cases)))


def _row(name: str, hits: int, of: int) -> str:
    low, high = wilson(hits, of)
    return f"  {name:28}{hits / of:.3f}  ({hits} of {of}; {low:.3f}–{high:.3f})"


if __name__ == "__main__":
    main()
