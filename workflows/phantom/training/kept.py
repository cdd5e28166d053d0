"""What was learnt and encoded is kept, by all that decides it: a run that was stopped goes on behind it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tilers.tile import ALGORITHM as TILING
from workflows.phantom.pathology import VERSION
from workflows.phantom.training.language import PROFILE
from workflows.phantom.training.lessons import LESSONS
from workflows.phantom.training.recipe import Recipe
from wsi_pipeline.store.fingerprint import fingerprint

TRAINING = 9
"""Raised whenever the same recipe would train other weights, so that nothing learnt before is taken for them."""


def kept(
    work: Path, name: str, recipe: dict[str, Any], module: nn.Module, learn: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Let `module` learn, or give it what it learnt in an earlier run by the same recipe; the figures of that."""
    file = kept_at(work, name, recipe)
    if not file.exists():
        started = time.monotonic()
        figures = learn()
        figures["minutes"] = round((time.monotonic() - started) / 60, 1)
        _save({"weights": module.state_dict(), "figures": figures}, file)
    known = torch.load(file, weights_only=True)
    module.load_state_dict(known["weights"])
    return dict(known["figures"])


def kept_tokens(file: Path, encode: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor]:
    """Tokens of every slide, encoded or as an earlier run left them in `file`."""
    if not file.exists():
        _save(encode(), file)
    return list(torch.load(file, weights_only=True))


def _save(what: object, file: Path) -> None:
    torch.save(what, file.with_suffix(".partial"))
    file.with_suffix(".partial").rename(file)


def kept_at(work: Path, name: str, recipe: dict[str, Any]) -> Path:
    """The file of what was learnt by such a recipe."""
    made_by = {"phantom": VERSION, "training": TRAINING, "tiling": TILING}
    return work / f"{name}-{fingerprint(**made_by, profile=PROFILE, recipe=recipe)}.pt"


def sizes(recipe: Recipe, tower: int, writer: int | None = None) -> dict[str, Any]:
    """What of a recipe decides the weights after so many cycles of the tower, and of the writer."""
    made = asdict(replace(recipe, tower=recipe.tower[:tower], writer=recipe.writer[: writer or 0], long=None, exam=0))
    del made["faint"], made["second_reader"]
    if writer is None:
        return {name: value for name, value in made.items() if name not in ("views", "organs")}
    return made | {"lessons": LESSONS}
