"""The recipe of the shipped phantom checkpoint: pool → vision tower → tokens → writer → model card."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reporters.profiles import Profile
from reporters.second_reader import save_second_reader
from reporters.training.build import build_model, build_tokenizer, save_checkpoint
from reporters.training.writer import POINT, WriterTrainer
from workflows.phantom.drawing.pool import PoolSlide, build_pool, pool_specs, shows_lesion, shows_nothing, shows_plainly
from workflows.phantom.pathology import VERSION, organ_named
from workflows.phantom.seeds import Split, require
from workflows.phantom.training.card import model_card
from workflows.phantom.training.exam import exact_reports
from workflows.phantom.training.examples import as_pixels, turned
from workflows.phantom.training.kept import kept, kept_at, kept_tokens, sizes
from workflows.phantom.training.labels import CLASSES, small_patches
from workflows.phantom.training.language import PROFILE, all_texts
from workflows.phantom.training.lessons import GRIDS, LearntSlide, Lessons
from workflows.phantom.training.long import long_profile, teach_long
from workflows.phantom.training.recipe import CPU, STREAMS, Cycle, Recipe
from workflows.phantom.training.teach_second_reader import READ_CLASSES, teach_second_reader
from workflows.phantom.training.teach_tower import teach_tower
from workflows.phantom.wording import EXTENSIVE_PATCHES
from wsi_pipeline.errors import ModelError
from wsi_pipeline.events import emit
from wsi_pipeline.models.checkpoint import FIGURES
from wsi_pipeline.models.exact import exact_convolutions
from wsi_pipeline.models.pixels import pool_grid

_POINTS = 24
"""Of the curve in the card at the most."""


def train(work: Path, out: Path, recipe: Recipe, workers: int = 2) -> dict[str, Any]:
    """Run the whole recipe and save the checkpoint to `out`; return the figures of its card.

    Slides, the tower, tokens and each cycle of the writer are kept in `work`: a run that was stopped goes on behind the
    last of them that it finished. The minutes of its card are those of each cycle, and of the last run for slides.

    Args:
        work: folder for what is made on the way (about 19 GB).
        out: folder of the checkpoint.
        recipe: sizes and seed.
        workers: processes that make slides.

    Raises:
        ModelError: the recipe takes a GPU, there is none, and what is learnt on one is not kept yet.
    """
    _check_gpu(work, recipe)
    device = recipe.device if torch.cuda.is_available() else "cpu"
    started = time.monotonic()
    pools = _training_pools(work, workers, recipe)
    faint_pool, held_out = _faint(work, workers, recipe), _held_out(work, workers, recipe)
    pooled = time.monotonic()
    tokenizer = build_tokenizer(all_texts())
    model = build_model(recipe.shape, tokenizer, recipe.seed)
    vision = model.model.vision_tower
    towers = teach_tower(vision, held_out, work, recipe, workers)
    emit("train.measured", what="tower", **towers[-1]["accuracy"])
    taught = time.monotonic()
    learnt = [_learn(vision, new, work, recipe, recipe.views, recipe.seed + k, device) for k, new in enumerate(pools)]
    faint = _learn(vision, faint_pool, work, recipe, recipe.views, recipe.seed, device)
    encoded = time.monotonic()
    writer = _teach_writer(model, tokenizer, learnt, work, recipe)
    profile = PROFILE
    if recipe.long:
        profile = long_profile(PROFILE, recipe.long)
        model.config.text_config.max_position_embeddings = profile.context
        writer += _teach_long(model, tokenizer, profile, learnt, work, recipe)
    seen = [slide for new in (*learnt, faint) for slide in new]
    classifier = teach_second_reader(seen, recipe.second_reader, recipe.seed)
    known = _learn(vision, held_out, work, recipe, 1, recipe.seed, device)
    trainer = WriterTrainer(model.to(device), tokenizer, profile, classes=0)
    reports = exact_reports(trainer, known, GRIDS, recipe.exam)
    figures = {
        "phantom_version": VERSION,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "slides": [len(new) for new in learnt],
        "faint_slides": len(faint),
        "patches": sum(len(slide.lesion) for new in learnt for slide in new),
        "held_out_patch_accuracy": towers[-1]["accuracy"],
        "held_out_exact_reports": reports,
        **_curve(writer),
        "minutes": {
            "pool": round((pooled - started) / 60, 1),
            "tokens": round((encoded - taught) / 60, 1),
            "tower": round(sum(cycle["minutes"] for cycle in towers), 1),
            "writer": round(sum(cycle["minutes"] for cycle in writer), 1),
        },
    }
    model.to("cpu")
    save_checkpoint(out, model, tokenizer, profile, recipe.shape)
    save_second_reader(out, classifier, READ_CLASSES)
    (out / FIGURES).write_text(json.dumps(figures, indent=1) + "\n")
    (out / "README.md").write_text(model_card(figures))
    return figures


def _curve(writer: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer loss of all cycles, at some points of the same distance."""
    whole = [loss for cycle in writer for loss in cycle["loss"]]
    apart = max(1, -(-len(whole) // _POINTS))
    return {"answer_loss": whole[::apart], "answer_loss_every": POINT * apart}


def _check_gpu(work: Path, recipe: Recipe) -> None:
    """Refuse to begin what only a GPU can end: what was learnt on one before may be kept in `work`.

    Raises:
        ModelError: there is none.
    """
    there = [("tower", sizes(recipe, len(recipe.tower)))] if recipe.device == "cuda" else []
    there += [("long", _long_sizes(recipe))] if recipe.long else []
    missing = [name for name, made_by in there if not kept_at(work, name, made_by).exists()]
    if missing and not torch.cuda.is_available():
        what = f"takes a GPU (for {missing[0]}-*.pt, not in {work})"
        raise ModelError("this recipe", what, "train where CUDA is and go on here with its --work, or by --recipe cpu")


def _teach_writer(
    model: Any, tokenizer: Any, learnt: list[list[LearntSlide]], work: Path, recipe: Recipe
) -> list[dict[str, Any]]:
    """All cycles of the language model, each on what was `learnt` of the slides so far; the figures of each."""

    def learn(number: int, cycle: Cycle) -> dict[str, Any]:
        grow = 2 * cycle.steps // 5 if number == 0 else 0
        known = [slide for new in learnt[: len(_pools(recipe.writer[: number + 1]))] for slide in new]
        return _one_cycle(model, tokenizer, PROFILE, known, cycle, recipe, number, grow)

    towers = len(recipe.tower)
    return [
        kept(work, "writer", sizes(recipe, towers, number + 1), model, partial(learn, number, cycle))
        for number, cycle in enumerate(recipe.writer)
    ]


def _one_cycle(
    model: Any,
    tokenizer: Any,
    profile: Profile,
    known: list[LearntSlide],
    cycle: Cycle,
    recipe: Recipe,
    number: int,
    grow: int = 0,
) -> dict[str, Any]:
    """Cycle `number` of the language model, on slides that are `known`; its figures."""
    seed = recipe.seed + number
    trainer = WriterTrainer(model, tokenizer, profile, len(CLASSES), 2 * len(CLASSES), recipe.seed)
    lessons = [Lessons(known, STREAMS * seed + k, seed, cycle.noise, cycle.whole) for k in range(STREAMS)]
    streams = [lesson.stream(cycle, profile, grow) for lesson in lessons]
    return {"loss": trainer.fit(streams, cycle.steps, cycle.rate)}


def _teach_long(
    model: Any, tokenizer: Any, profile: Profile, learnt: list[list[LearntSlide]], work: Path, recipe: Recipe
) -> list[dict[str, Any]]:
    """The cycle on long rows and the one behind it; the figures of each."""
    cycle = recipe.long
    assert cycle
    made_by, settle = _long_sizes(recipe), cycle.settle
    whole = [slide for new in learnt for slide in new]
    some = [slide for new in learnt[: _pools(recipe.writer).index(settle.slides) + 1] for slide in new]

    def learn() -> dict[str, Any]:
        return {"loss": teach_long(model, tokenizer, profile, whole, cycle, recipe.seed, "cuda")}

    def settled() -> dict[str, Any]:
        return _one_cycle(model, tokenizer, profile, some, settle, recipe, len(recipe.writer))

    return [
        kept(work, "long", made_by, model, learn),
        kept(work, "settled", made_by | {"settle": asdict(settle)}, model, settled),
    ]


def _long_sizes(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides the weights after the cycle on long rows."""
    assert recipe.long
    long = {name: value for name, value in asdict(recipe.long).items() if name != "settle"}
    return sizes(recipe, len(recipe.tower), len(recipe.writer)) | {"long": long}


def _pools(cycles: Sequence[Cycle]) -> list[tuple[int, int, int]]:
    """The different pools that cycles learn from, as they join."""
    return list(dict.fromkeys(cycle.slides for cycle in cycles))


def training_pool(work: Path, workers: int = 2, recipe: Recipe = CPU) -> list[PoolSlide]:
    """The slides a checkpoint is trained on, made below `work` where they are not there yet."""
    return [slide for new in _training_pools(work, workers, recipe) for slide in new]


def _training_pools(work: Path, workers: int, recipe: Recipe) -> list[list[PoolSlide]]:
    """The same, as they join."""
    pools: list[list[PoolSlide]] = []
    for counts in _pools(recipe.writer):
        known = {slide.spec.seed for pool in pools for slide in pool}
        pool = _pool(work, "train", counts, recipe.organs, workers)
        pools.append([slide for slide in pool if slide.spec.seed not in known])
    return pools


def _faint(work: Path, workers: int, recipe: Recipe) -> list[PoolSlide]:
    """Slides that only the second reader learns from."""
    return _pool(work, "train", (0, 0, recipe.faint), recipe.organs, workers)


def _held_out(work: Path, workers: int, recipe: Recipe) -> list[PoolSlide]:
    """Slides of other seeds, on which the tower and the writer are examined."""
    benign, per_lesion, _ = recipe.writer[0].slides
    return _pool(work, "calibration", (max(1, benign // 5), max(2, per_lesion // 10), 0), recipe.organs, workers)


def _pool(
    work: Path, split: Split, counts: tuple[int, int, int], organs: Collection[str], workers: int
) -> list[PoolSlide]:
    specs = pool_specs(split, *counts, workers, [organ_named(name) for name in organs])
    require(split, (spec.seed for spec in specs))
    slides = []
    for slide in build_pool(work / split, specs, workers):
        slides.append(slide)
        emit("train.pool", split=split, done=len(slides), total=len(specs))
    return slides


def _learn(
    vision: Any, slides: list[PoolSlide], work: Path, recipe: Recipe, views: int, seed: int, device: str
) -> list[LearntSlide]:
    """Slides as the writer sees them, by the tokens of `views` views of each."""
    seeds = [slide.spec.seed for slide in slides]
    made_by = sizes(recipe, len(recipe.tower)) | {"slides": seeds, "views": views, "random": seed}
    file = kept_at(work, "tokens", made_by)
    tokens = kept_tokens(file, partial(_encoded, vision, slides, recipe.shape.pixels, views, seed, device))
    return [_learnt(slide, some.numpy()) for slide, some in zip(slides, tokens, strict=True)]


def _learnt(slide: PoolSlide, tokens: NDArray[np.float16]) -> LearntSlide:
    extensive = slide.showing >= EXTENSIVE_PATCHES
    shown = shows_lesion(slide.lesion), shows_plainly(slide.lesion), shows_nothing(slide.lesion)
    return LearntSlide(slide.organ, slide.diagnosis, extensive, tuple(tokens), *shown)


def _encoded(
    vision: Any, slides: list[PoolSlide], pixels: int, views: int, seed: int, device: str
) -> list[torch.Tensor]:
    """(views, n, T, D) of every slide at the finest trained T, turned and stained in several ways; the first view is
    as scanned."""
    random = np.random.default_rng([seed, 5])
    tokens = []
    vision.to(device)
    for scanned in small_patches(slides, pixels):
        images = torch.stack([scanned, *(turned(scanned, int(random.integers(8))) for _ in range(1, views))])
        power = torch.ones(views, 3, 1, 1)
        power[1:] += 0.24 * (torch.from_numpy(random.random((views - 1, 3, 1, 1))).float() - 0.5)
        light = (as_pixels(images.flatten(0, 1).to(device)) + 1) / 2 + 1e-3
        stained = light ** power.repeat_interleave(len(scanned), 0).to(device) * 2 - 1
        with torch.inference_mode(), exact_convolutions():
            hidden = vision(pixel_values=stained).last_hidden_state
        pooled = pool_grid(hidden, max(GRIDS)).half().cpu()
        tokens.append(pooled.reshape(views, len(scanned), *pooled.shape[1:]))
        if len(tokens) % 100 == 0:
            emit("train.tokens", done=len(tokens), total=len(slides))
    vision.to("cpu")
    return tokens
