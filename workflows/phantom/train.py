"""The recipe of the shipped phantom checkpoint: pool → vision tower → tokens → writer → model card."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reporters.profiles import Profile
from reporters.training.build import Shape, build_model, build_tokenizer, save_checkpoint
from reporters.training.tower import CellClassifier, as_pixels, train_tower, turned
from reporters.training.writer import WriterTrainer
from workflows.phantom.card import model_card
from workflows.phantom.cohort import MAX_SLIDES
from workflows.phantom.labels import (
    CLASSES,
    Labelled,
    cell_targets,
    labelled_pool,
    labelled_sheets,
    small_patches,
    together,
)
from workflows.phantom.lessons import SHOWN_FROM, LearntSlide, Lessons, merged_report, shows_lesion, shows_nothing
from workflows.phantom.pathology import ORGANS, VERSION
from workflows.phantom.pool import PoolSlide, build_pool, pool_specs
from workflows.phantom.scoring import BUCKETS
from workflows.phantom.seeds import Split, require
from workflows.phantom.sheets import Sheets, make_sheets
from workflows.phantom.wording import PartFinding, write_report
from wsi_pipeline.events import emit
from wsi_pipeline.models.pixels import pool_grid

GRIDS = (1, 4)
"""Tokens per patch the checkpoint is trained with."""
TOWER_GRIDS = (1, 4, 16)
"""Cells per patch the tower is taught on: finer ones teach where, and lower its false alarms."""

PROFILE = Profile(
    name="phantom",
    native_tokens=16,
    trained_tokens=GRIDS,
    context=8192,
    strategy="joint",
    patch_size=768,
    mpps=(1.0,),
    opening="<bos><start_of_turn>user\n",
    slide_marker="Slide {n}:",
    marker_every={1: 8, 4: 6},
    prompt="\nReport this part.",
    merge_prompt="{findings}\nMerge.",
    closing="<end_of_turn>\n<start_of_turn>model\n",
    end="<end_of_turn>",
    max_slides=MAX_SLIDES,
    answer="lines",
    domain="phantom",
)


@dataclass(frozen=True)
class Recipe:
    """Sizes of a training run; the defaults made the shipped checkpoint."""

    benign: int = 60
    per_lesion: int = 60
    sheets: int = 5450
    tower_steps: int = 14000
    views: int = 4
    writer: tuple[tuple[int, float], ...] = ((6000, 1e-3), (5000, 6e-4))
    """Steps and highest rate of each cycle; parts grow over the first two fifths of the first."""
    exam: int = 200
    seed: int = 0


QUICK = Recipe(benign=2, per_lesion=2, sheets=4, tower_steps=20, views=1, writer=((16, 1e-3), (8, 6e-4)), exam=4)
"""Runs through every step in a minute or two."""


def train(work: Path, out: Path, recipe: Recipe, workers: int = 2) -> dict[str, Any]:
    """Run the whole recipe and save the checkpoint to `out`; return the figures of its card.

    Args:
        work: folder for the pool (about 6 GB); kept, so that a second run starts at the tower.
        out: folder of the checkpoint.
        recipe: sizes and seed.
        workers: processes that make slides.
    """
    started = time.monotonic()
    pool = training_pool(work, workers, recipe)
    held_out = _pool(work, "calibration", max(2, recipe.benign // 5), max(2, recipe.per_lesion // 10), workers)
    pooled = time.monotonic()
    tokenizer = build_tokenizer(_all_texts())
    shape = Shape(context=PROFILE.context)
    model = build_model(shape, tokenizer, recipe.seed)

    patches = together(labelled_pool(pool, shape.pixels), labelled_sheets(_sheets(work, recipe, shape.pixels, workers)))
    classifier = train_tower(
        model.model.vision_tower, patches.images, cell_targets(patches, TOWER_GRIDS),
        steps=recipe.tower_steps, seed=recipe.seed, weights=_even(patches),
    )  # fmt: skip
    patch_accuracy = _patch_accuracy(classifier, labelled_pool(held_out, shape.pixels))
    towered = time.monotonic()
    emit("train.measured", what="tower", **patch_accuracy)

    slides = _learn(model, pool, shape.pixels, recipe.views, recipe.seed)
    fresh = _learn(model, held_out, shape.pixels, 1, recipe.seed)
    curve: list[float] = []
    for cycle, (steps, rate) in enumerate(recipe.writer):
        trainer = WriterTrainer(model, tokenizer, PROFILE, len(CLASSES), 2 * len(CLASSES), recipe.seed)
        grow = 2 * steps // 5 if cycle == 0 else 0
        lessons = Lessons(slides, recipe.seed + cycle).stream(grow, GRIDS, PROFILE)
        curve += trainer.fit(lessons, steps, rate)
    exact = _exact(trainer, fresh, recipe.exam)
    finished = time.monotonic()
    figures = {
        "phantom_version": VERSION,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "slides": len(pool),
        "patches": len(patches.images),
        "held_out_patch_accuracy": patch_accuracy,
        "held_out_exact_reports": exact,
        "answer_loss": curve[:: max(1, len(curve) // 24)],
        "minutes": {
            "pool": round((pooled - started) / 60, 1),
            "tower": round((towered - pooled) / 60, 1),
            "writer": round((finished - towered) / 60, 1),
        },
    }
    save_checkpoint(out, model, tokenizer, PROFILE, shape)
    (out / "training.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "README.md").write_text(model_card(figures))
    return figures


def training_pool(work: Path, workers: int = 2, recipe: Recipe | None = None) -> list[PoolSlide]:
    """The slides a checkpoint is trained on, made below `work` where they are not there yet."""
    sizes = recipe or Recipe()
    return _pool(work, "train", sizes.benign, sizes.per_lesion, workers)


def _pool(work: Path, split: Split, benign: int, per_lesion: int, workers: int) -> list[PoolSlide]:
    specs = pool_specs(split, benign, per_lesion, workers)
    require(split, (spec.seed for spec in specs))
    slides = []
    for slide in build_pool(work / split, specs, workers):
        slides.append(slide)
        emit("train.pool", split=split, done=len(slides), total=len(specs))
    return slides


def _all_texts() -> Iterator[str]:
    """Every word a report, a marker or a prompt can hold."""
    yield PROFILE.opening.replace("<", "\n").replace(">", "\n") + PROFILE.prompt + "user\nmodel\n"
    yield str(PROFILE.merge_prompt).format(findings="F1: F2: ; [F1, F2]")
    yield from (f"Slide {n}:, {n} F{n} slides {n}" for n in range(1, 51))
    for organ in ORGANS:
        yield write_report(organ, 2, ())
        for lesion in organ.lesions:
            for findings in ([PartFinding(lesion, (1,), "focal")], [PartFinding(lesion, (1, 2), "extensive")]):
                yield write_report(organ, 3, findings)
                yield merged_report(organ, 3, tuple(findings))


def _sheets(work: Path, recipe: Recipe, pixels: int, workers: int) -> list[Sheets]:
    sheets: list[Sheets] = []
    for group in make_sheets(work / "sheets", "train", recipe.sheets, pixels, workers):
        sheets.append(group)
        emit("train.sheets", patches=sum(len(s.images) for s in sheets))
    return sheets


def _even(patches: Labelled) -> Tensor:
    """Weights that draw as many patches with a lesion as without."""
    lesion = patches.lesion > SHOWN_FROM
    share = lesion.double().mean().clamp(1e-3, 1 - 1e-3)
    return torch.where(lesion, 0.5 / share, 0.5 / (1 - share))


@torch.inference_mode()
def _patch_accuracy(classifier: CellClassifier, patches: Labelled) -> dict[str, float]:
    """On cells that are clearly one class: share right, and share of normal ones called a lesion."""
    images, targets = patches.images, cell_targets(patches, GRIDS)
    logits = [classifier(as_pixels(images[i : i + 128]), GRIDS) for i in range(0, len(images), 128)]
    figures = {}
    for grid in GRIDS:
        guess = torch.cat([part[grid] for part in logits]).argmax(-1)
        clear = targets[grid].amax(-1) > 0.99
        truth = targets[grid].argmax(-1)
        normal = clear & (truth < len(ORGANS))
        figures[f"right, T={grid}"] = round(float((guess == truth)[clear].float().mean()), 4)
        figures[f"normal called lesion, T={grid}"] = round(float((guess >= len(ORGANS))[normal].float().mean()), 4)
    return figures


@torch.inference_mode()
def _learn(model: Any, slides: list[PoolSlide], pixels: int, views: int, seed: int) -> list[LearntSlide]:
    """Tokens of every slide at the finest trained T, turned and stained in several ways; the first is as scanned."""
    random = np.random.default_rng([seed, 5])
    learnt = []
    for slide in slides:
        scanned = small_patches(slide, pixels)
        tokens = []
        for view in range(views):
            images = as_pixels(scanned if view == 0 else turned(scanned, int(random.integers(8))))
            power = 1.0 if view == 0 else 1 + 0.24 * (torch.from_numpy(random.random((1, 3, 1, 1))).float() - 0.5)
            stained = ((images + 1) / 2 + 1e-3) ** power * 2 - 1
            hidden = model.model.vision_tower(pixel_values=stained).last_hidden_state
            tokens.append(pool_grid(hidden, max(GRIDS)).half().numpy())
        extensive = len(slide.spec.foci) > 0 and slide.spec.foci[0].mm >= 0.9
        lesion, clear = shows_lesion(slide.lesion), shows_nothing(slide.lesion)
        learnt.append(LearntSlide(slide.organ, slide.diagnosis, extensive, tuple(tokens), lesion, clear))
        if len(learnt) % 100 == 0:
            emit("train.tokens", done=len(learnt), total=len(slides))
    return learnt


def _exact(trainer: WriterTrainer, slides: list[LearntSlide], n: int) -> dict[str, float]:
    """Share of exact whole reports on cases composed of held-out slides as they are, and of exact merges."""
    lessons = Lessons(slides, seed=7)
    rng = np.random.default_rng(7)
    rates = {}
    for name, (low, high) in BUCKETS.items():
        for grid in GRIDS:
            cases = [lessons.part(int(rng.integers(low, high + 1)), grid, composed=False) for _ in range(n)]
            rates[f"{name} slides, T={grid}"] = trainer.exact_rate(cases)
    rates["merged windows"] = trainer.exact_rate([lessons.merge(int(rng.integers(2, 13)), PROFILE) for _ in range(n)])
    return rates
