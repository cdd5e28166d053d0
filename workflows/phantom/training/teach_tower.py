"""The tower's part of the recipe: it learns from sheets alone.

What it says of the pool is then as often wrong as on slides to come, which the writer must have seen to know how far to
trust it.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from reporters.training.tower import train_tower, whiten
from workflows.phantom.drawing.pool import PoolSlide
from workflows.phantom.training.exam import patch_accuracy
from workflows.phantom.training.examples import examples
from workflows.phantom.training.kept import kept, sizes
from workflows.phantom.training.labels import TOWER_CLASSES, labelled_pool
from workflows.phantom.training.lessons import GRIDS
from workflows.phantom.training.recipe import STREAMS, Recipe, TowerCycle
from workflows.phantom.training.sheets import GROUP, LESIONS, LOOKALIKES, Sheets, make_sheets, read_sheets
from wsi_pipeline.events import emit

_TYPICAL = 1000
"""Patches whose components the tower begins with."""
_GRIDS = (1, 4, 16)
"""Cells per patch the tower is taught on: finer ones teach where, and lower its false alarms."""


def _draw_sheets(work: Path, recipe: Recipe, workers: int) -> list[Path]:
    """Files of all sheets of a recipe, those of one crowd before those of the other."""
    files, pixels = [], recipe.shape.pixels
    for crowd, count in ((LESIONS, recipe.lesion_sheets), (LOOKALIKES, recipe.mimic_sheets)):
        for number, file in enumerate(make_sheets(work / "sheets", "train", crowd, count, pixels, workers), 1):
            files.append(file)
            emit("train.sheets", crowd=crowd.name, done=min(number * GROUP, count), total=count)
    return files


def teach_tower(
    vision: Any, held_out: list[PoolSlide], work: Path, recipe: Recipe, workers: int
) -> list[dict[str, Any]]:
    """All cycles of the vision tower, where they are not kept yet; the figures of each.

    Args:
        vision: the tower, taught in place.
        held_out: slides of other seeds, on which it is examined.
        work: folder of what is kept.
        recipe: sizes and seed.
        workers: processes that draw sheets.
    """
    pixels, streams = recipe.shape.pixels, STREAMS if recipe.device == "cpu" else 1

    @cache
    def known() -> Sheets:
        return read_sheets(_draw_sheets(work, recipe, workers), recipe.lesion_sheets + recipe.mimic_sheets)

    def learn(number: int, cycle: TowerCycle) -> dict[str, Any]:
        if number == 0:
            typical, _ = next(examples(known(), pixels, _GRIDS, _TYPICAL, recipe.seed))
            whiten(vision, typical)
        seeds = [streams * (recipe.seed + number) + k for k in range(streams)]
        some = [examples(known(), pixels, _GRIDS, cycle.batch, seed, recipe.device) for seed in seeds]
        vision.to(recipe.device)
        classifier = train_tower(vision, TOWER_CLASSES, some, cycle.steps, cycle.rate, recipe.seed + number).to("cpu")
        return {"accuracy": patch_accuracy(classifier, labelled_pool(held_out, pixels), GRIDS)}

    return [
        kept(work, "tower", sizes(recipe, tower=number + 1), vision, partial(learn, number, cycle))
        for number, cycle in enumerate(recipe.tower)
    ]
