"""The recipe of the shipped phantom checkpoint: pool → vision tower → tokens → writer → model card."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reporters.profiles import Profile
from reporters.training.build import Shape, build_model, build_tokenizer, save_checkpoint
from reporters.training.tower import train_tower, whiten
from reporters.training.writer import WriterTrainer
from tilers.tile import ALGORITHM as TILING
from workflows.phantom.drawing.layout import lay_out, patches_showing
from workflows.phantom.drawing.pool import PoolSlide, build_pool, pool_specs, shows_lesion, shows_nothing, shows_plainly
from workflows.phantom.pathology import VERSION, organ_named
from workflows.phantom.seeds import Split, require
from workflows.phantom.training.card import model_card
from workflows.phantom.training.exam import exact_reports, patch_accuracy
from workflows.phantom.training.examples import as_pixels, examples, turned
from workflows.phantom.training.labels import CLASSES, TOWER_CLASSES, labelled_pool, small_patches
from workflows.phantom.training.language import PROFILE, all_texts
from workflows.phantom.training.lessons import GRIDS, LESSONS, LearntSlide, Lessons
from workflows.phantom.training.long import check_gpu, long_profile, teach_long
from workflows.phantom.training.recipe import Cycle, Recipe
from workflows.phantom.training.sheets import LESIONS, LOOKALIKES, Crowd, Sheets, join, make_sheets
from workflows.phantom.wording import EXTENSIVE_PATCHES
from wsi_pipeline.events import emit
from wsi_pipeline.models.checkpoint import FIGURES
from wsi_pipeline.models.pixels import pool_grid
from wsi_pipeline.store.fingerprint import fingerprint

_STREAMS = 2
"""Batches per step, a core for each; part of the recipe, whatever the machine has."""
TRAINING = 8
"""Raised whenever the same recipe would train another tower, so that nothing learnt before is taken for it."""
_TYPICAL = 1000
"""Patches whose components the tower begins with."""
TOWER_GRIDS = (1, 4, 16)
"""Cells per patch the tower is taught on: finer ones teach where, and lower its false alarms."""


def train(work: Path, out: Path, recipe: Recipe, workers: int = 2) -> dict[str, Any]:
    """Run the whole recipe and save the checkpoint to `out`; return the figures of its card.

    Slides, the tower and each cycle of the writer are kept in `work`: a run that was stopped goes on behind the last
    of them that it finished. The minutes of its card are those of each cycle, and of the last run for slides.

    Args:
        work: folder for what is made on the way (about 14 GB).
        out: folder of the checkpoint.
        recipe: sizes and seed.
        workers: processes that make slides.

    Raises:
        ModelError: the recipe takes a GPU, and there is none.
    """
    if recipe.long and not _kept_at(work, "long", _long_sizes(recipe)).exists():
        check_gpu()
    started = time.monotonic()
    pools = _training_pools(work, workers, recipe)
    benign, per_lesion, _faint = recipe.writer[0].slides
    held_out = _pool(work, "calibration", (max(1, benign // 5), max(2, per_lesion // 10), 0), recipe.organs, workers)
    pooled = time.monotonic()
    tokenizer = build_tokenizer(all_texts())
    shape = Shape(context=PROFILE.context)
    model = build_model(shape, tokenizer, recipe.seed)
    towers = _teach_tower(model.model.vision_tower, held_out, work, recipe, shape.pixels, workers)
    emit("train.measured", what="tower", **towers[-1]["accuracy"])
    learnt = [_learn(model, new, shape.pixels, recipe.views, recipe.seed + k) for k, new in enumerate(pools)]
    writer = _teach_writer(model, tokenizer, learnt, work, recipe)
    profile = PROFILE
    if recipe.long:
        profile = long_profile(PROFILE, recipe.long)
        model.config.text_config.max_position_embeddings = profile.context
        writer += _teach_long(model, tokenizer, profile, learnt, work, recipe)
    curve = [loss for cycle in writer for loss in cycle["loss"]]
    figures = {
        "phantom_version": VERSION,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "slides": [len(new) for new in pools],
        "patches": sum(len(slide.shares) for new in pools for slide in new),
        "held_out_patch_accuracy": towers[-1]["accuracy"],
        "held_out_exact_reports": exact_reports(
            WriterTrainer(model, tokenizer, profile, classes=0),
            _learn(model, held_out, shape.pixels, 1, recipe.seed),
            GRIDS,
            recipe.exam,
        ),
        "answer_loss": curve[:: max(1, len(curve) // 24)],
        "minutes": {
            "pool": round((pooled - started) / 60, 1),
            "tower": round(sum(cycle["minutes"] for cycle in towers), 1),
            "writer": round(sum(cycle["minutes"] for cycle in writer), 1),
        },
    }
    save_checkpoint(out, model, tokenizer, profile, shape)
    (out / FIGURES).write_text(json.dumps(figures, indent=1) + "\n")
    (out / "README.md").write_text(model_card(figures))
    return figures


def _teach_tower(
    vision: Any, held_out: list[PoolSlide], work: Path, recipe: Recipe, pixels: int, workers: int
) -> list[dict[str, Any]]:
    """All cycles of the vision tower; the figures of each.

    It learns from sheets alone. What it says of the pool is then as often wrong as on slides to come, which the
    writer must have seen to know how far to trust it.
    """

    @cache
    def sheets() -> Sheets:
        crowds = ((LESIONS, recipe.lesion_sheets), (LOOKALIKES, recipe.mimic_sheets))
        made = (s for crowd, count in crowds for s in _sheets(work, crowd, count, pixels, workers))
        return join(made, recipe.lesion_sheets + recipe.mimic_sheets)

    def learn(cycle: int, steps: int, rate: float) -> dict[str, Any]:
        if cycle == 0:
            typical, _ = next(examples(sheets(), pixels, TOWER_GRIDS, _TYPICAL, recipe.seed))
            whiten(vision, typical)
        seeds = [_STREAMS * (recipe.seed + cycle) + k for k in range(_STREAMS)]
        streams = [examples(sheets(), pixels, TOWER_GRIDS, 24, seed) for seed in seeds]
        classifier = train_tower(vision, TOWER_CLASSES, streams, steps, rate, recipe.seed + cycle)
        return {"accuracy": patch_accuracy(classifier, labelled_pool(held_out, pixels), GRIDS)}

    return [
        _kept(work, "tower", _sizes(recipe, tower=number + 1), vision, partial(learn, number, steps, rate))
        for number, (steps, rate) in enumerate(recipe.tower)
    ]


def _teach_writer(
    model: Any, tokenizer: Any, learnt: list[list[LearntSlide]], work: Path, recipe: Recipe
) -> list[dict[str, Any]]:
    """All cycles of the language model, each on what was `learnt` of the slides so far; the figures of each."""

    def learn(number: int, cycle: Cycle) -> dict[str, Any]:
        grow = 2 * cycle.steps // 5 if number == 0 else 0
        known = [slide for new in learnt[: len(_pools(recipe.writer[: number + 1]))] for slide in new]
        return _one_cycle(model, tokenizer, PROFILE, known, cycle, recipe.seed, number, grow)

    towers = len(recipe.tower)
    return [
        _kept(work, "writer", _sizes(recipe, towers, number + 1), model, partial(learn, number, cycle))
        for number, cycle in enumerate(recipe.writer)
    ]


def _one_cycle(
    model: Any,
    tokenizer: Any,
    profile: Profile,
    known: list[LearntSlide],
    cycle: Cycle,
    seed: int,
    number: int,
    grow: int = 0,
) -> dict[str, Any]:
    """Cycle `number` of the language model, on slides that are `known`; its figures."""
    seeds = [_STREAMS * (seed + number) + k for k in range(_STREAMS)]
    lessons = [Lessons(known, some, seed + number, cycle.noise, cycle.whole) for some in seeds]
    streams = [lesson.stream(cycle, profile, grow) for lesson in lessons]
    trainer = WriterTrainer(model, tokenizer, profile, len(CLASSES), 2 * len(CLASSES), seed)
    return {"loss": trainer.fit(streams, cycle.steps, cycle.rate)}


def _teach_long(
    model: Any, tokenizer: Any, profile: Profile, learnt: list[list[LearntSlide]], work: Path, recipe: Recipe
) -> list[dict[str, Any]]:
    """The cycle on long rows and the one behind it; the figures of each."""
    cycle = recipe.long
    assert cycle
    sizes, settle = _long_sizes(recipe), cycle.settle
    whole = [slide for new in learnt for slide in new]
    some = [slide for new in learnt[: _pools(recipe.writer).index(settle.slides) + 1] for slide in new]

    def learn() -> dict[str, Any]:
        return {"loss": teach_long(model, tokenizer, profile, whole, cycle, recipe.seed, "cuda")}

    def settled() -> dict[str, Any]:
        return _one_cycle(model, tokenizer, profile, some, settle, recipe.seed, len(recipe.writer))

    return [
        _kept(work, "long", sizes, model, learn),
        _kept(work, "settled", sizes | {"settle": asdict(settle)}, model, settled),
    ]


def _long_sizes(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides the weights after the cycle on long rows."""
    assert recipe.long
    long = {name: value for name, value in asdict(recipe.long).items() if name != "settle"}
    return _sizes(recipe, len(recipe.tower), len(recipe.writer)) | {"long": long}


def _sizes(recipe: Recipe, tower: int, writer: int | None = None) -> dict[str, Any]:
    """What of a recipe decides the weights after so many cycles of the tower, and of the writer."""
    sizes: dict[str, Any] = {name: getattr(recipe, name) for name in ("seed", "lesion_sheets", "mimic_sheets")}
    sizes["tower"] = recipe.tower[:tower]
    if writer is None:
        return sizes
    cycles = [asdict(cycle) for cycle in recipe.writer[:writer]]
    if recipe.organs != Recipe().organs:
        sizes["organs"] = recipe.organs
    return sizes | {"lessons": LESSONS, "views": recipe.views, "writer": cycles}


def _pools(cycles: Sequence[Cycle]) -> list[tuple[int, int, int]]:
    """The different pools that cycles learn from, as they join."""
    return list(dict.fromkeys(cycle.slides for cycle in cycles))


def _kept(
    work: Path, name: str, recipe: dict[str, Any], module: nn.Module, learn: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Let `module` learn, or give it what it learnt in an earlier run by the same recipe; the figures of that."""
    file = _kept_at(work, name, recipe)
    if not file.exists():
        started = time.monotonic()
        figures = learn()
        figures["minutes"] = round((time.monotonic() - started) / 60, 1)
        torch.save({"weights": module.state_dict(), "figures": figures}, file.with_suffix(".partial"))
        file.with_suffix(".partial").rename(file)
    known = torch.load(file, weights_only=True)
    module.load_state_dict(known["weights"])
    return dict(known["figures"])


def _kept_at(work: Path, name: str, recipe: dict[str, Any]) -> Path:
    made_by = {"phantom": VERSION, "training": TRAINING, "tiling": TILING}
    return work / f"{name}-{fingerprint(**made_by, profile=PROFILE, recipe=recipe)}.pt"


def training_pool(work: Path, workers: int = 2, recipe: Recipe | None = None) -> list[PoolSlide]:
    """The slides a checkpoint is trained on, made below `work` where they are not there yet."""
    return [slide for new in _training_pools(work, workers, recipe or Recipe()) for slide in new]


def _training_pools(work: Path, workers: int, recipe: Recipe) -> list[list[PoolSlide]]:
    """The same, as they join."""
    pools: list[list[PoolSlide]] = []
    for sizes in _pools(recipe.writer):
        known = {slide.spec.seed for pool in pools for slide in pool}
        pool = _pool(work, "train", sizes, recipe.organs, workers)
        pools.append([slide for slide in pool if slide.spec.seed not in known])
    return pools


def _pool(
    work: Path, split: Split, sizes: tuple[int, int, int], organs: Collection[str], workers: int
) -> list[PoolSlide]:
    specs = pool_specs(split, *sizes, workers, [organ_named(name) for name in organs])
    require(split, (spec.seed for spec in specs))
    slides = []
    for slide in build_pool(work / split, specs, workers):
        slides.append(slide)
        emit("train.pool", split=split, done=len(slides), total=len(specs))
    return slides


def _sheets(work: Path, crowd: Crowd, count: int, pixels: int, workers: int) -> Iterator[Sheets]:
    made = 0
    for group in make_sheets(work / "sheets", "train", crowd, count, pixels, workers):
        made += len(group.images)
        emit("train.sheets", crowd=crowd.name, done=made, total=count)
        yield group


@torch.inference_mode()
def _learn(model: Any, slides: list[PoolSlide], pixels: int, views: int, seed: int) -> list[LearntSlide]:
    """Tokens of every slide at the finest trained T, turned and stained in several ways; the first is as scanned."""
    random = np.random.default_rng([seed, 5])
    learnt = []
    for slide, scanned in zip(slides, small_patches(slides, pixels), strict=True):
        tokens = []
        for view in range(views):
            images = as_pixels(scanned if view == 0 else turned(scanned, int(random.integers(8))))
            power = 1.0 if view == 0 else 1 + 0.24 * (torch.from_numpy(random.random((1, 3, 1, 1))).float() - 0.5)
            stained = ((images + 1) / 2 + 1e-3) ** power * 2 - 1
            hidden = model.model.vision_tower(pixel_values=stained).last_hidden_state
            tokens.append(pool_grid(hidden, max(GRIDS)).half().numpy())
        extensive = patches_showing(lay_out(slide.spec)) >= EXTENSIVE_PATCHES
        shown = shows_lesion(slide.lesion), shows_plainly(slide.lesion), shows_nothing(slide.lesion)
        learnt.append(LearntSlide(slide.organ, slide.diagnosis, extensive, tuple(tokens), *shown))
        if len(learnt) % 100 == 0:
            emit("train.tokens", done=len(learnt), total=len(slides))
    return learnt
