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
from numpy.typing import NDArray
from torch import Tensor

from reporters.profiles import Profile
from reporters.training.build import Shape, build_model, build_tokenizer, save_checkpoint
from reporters.training.tower import CellClassifier, as_pixels, train_tower
from reporters.training.writer import TrainingCase, Truth, WriterTrainer
from workflows.phantom.card import model_card
from workflows.phantom.cohort import MAX_SLIDES
from workflows.phantom.pathology import ORGANS, VERSION, Organ, write_report
from workflows.phantom.pool import PoolSlide, build_pool, pool_specs
from wsi_pipeline.events import emit
from wsi_pipeline.models.pixels import pool_grid, resize
from wsi_pipeline.store.patches import PatchStore

GRIDS = (1, 4)
"""Tokens per patch the checkpoint is trained with."""

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
    closing="<end_of_turn>\n<start_of_turn>model\n",
    end="<end_of_turn>",
    max_slides=MAX_SLIDES,
    answer="lines",
    domain="phantom",
)

CLASSES = [(organ, organ.benign) for organ in ORGANS] + [
    (organ, d) for organ in ORGANS for d in organ.diagnoses[1:]
]  # benign first: the larger class number of two is the lesion
_NUMBER = {(organ.name, d.text): n for n, (organ, d) in enumerate(CLASSES)}


@dataclass(frozen=True)
class Recipe:
    """Sizes of a training run; the defaults made the shipped checkpoint."""

    benign: int = 60
    per_lesion: int = 35
    tower_steps: int = 2000
    views: int = 5
    writer_steps: int = 5000
    seed: int = 0


QUICK = Recipe(benign=1, per_lesion=1, tower_steps=20, views=1, writer_steps=20)
"""Runs through every step in a minute or two."""


@dataclass(frozen=True)
class LearntSlide:
    """A pool slide as the writer sees it: tokens per view, and truth."""

    organ: str
    label: int
    tokens: tuple[NDArray[np.float32], ...]
    patch_labels: NDArray[np.int64]


ByLabel = dict[int, list[LearntSlide]]


def train(work: Path, out: Path, recipe: Recipe, workers: int = 2) -> dict[str, Any]:
    """Run the whole recipe and save the checkpoint to `out`; return the figures of its card.

    Args:
        work: folder for the pool (about 3 GB); kept, so that a second run starts at the tower.
        out: folder of the checkpoint.
        recipe: sizes and seed.
        workers: processes that make slides.
    """
    started = time.monotonic()
    pool = _pool(work, "train", recipe.benign, recipe.per_lesion, workers)
    held_out = _pool(work, "calibration", -(-recipe.benign // 6), -(-recipe.per_lesion // 7), workers)
    pooled = time.monotonic()
    tokenizer = build_tokenizer(_all_texts())
    shape = Shape(context=PROFILE.context)
    model = build_model(shape, tokenizer, recipe.seed)

    images, targets = _patches(pool, shape.pixels)
    classifier = train_tower(model.model.vision_tower, images, targets, steps=recipe.tower_steps, seed=recipe.seed)
    patch_accuracy = _patch_accuracy(classifier, *_patches(held_out, shape.pixels))
    towered = time.monotonic()

    slides = _learn(model, pool, shape.pixels, recipe.views, recipe.seed)
    fresh = _learn(model, held_out, shape.pixels, 1, recipe.seed)
    trainer = WriterTrainer(model, tokenizer, PROFILE, len(CLASSES), recipe.seed)
    curve = trainer.fit(_stream(slides, recipe), recipe.writer_steps)
    exact = {
        f"{low}-{high} slides, T={grid}": _exact(trainer, fresh, low, high, grid)
        for low, high in ((1, 1), (2, 5), (6, MAX_SLIDES))
        for grid in GRIDS
    }
    finished = time.monotonic()
    figures = {
        "phantom_version": VERSION,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "patches": len(images),
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


def _pool(work: Path, split: Any, benign: int, per_lesion: int, workers: int) -> list[PoolSlide]:
    specs = pool_specs(split, benign, per_lesion)
    slides = []
    for slide in build_pool(work / split, specs, workers):
        slides.append(slide)
        emit("train.pool", split=split, done=len(slides), total=len(specs))
    return slides


def _all_texts() -> Iterator[str]:
    """Every word a report, a marker or the prompt can hold."""
    yield PROFILE.opening.replace("<", "\n").replace(">", "\n") + PROFILE.prompt + "user\nmodel\n"
    yield from (f"Slide {n}:, {n}" for n in range(1, 51))
    for organ in ORGANS:
        for diagnosis in organ.diagnoses:
            yield write_report(organ, diagnosis, [True, False])


def _patches(slides: list[PoolSlide], pixels: int) -> tuple[Tensor, dict[int, Tensor]]:
    """All patches at the model's size, and their target distributions per T of `GRIDS`."""
    images = torch.cat([_small(slide, pixels) for slide in slides])
    shares = torch.from_numpy(np.concatenate([s.lesion for s in slides]))
    lesion = torch.tensor([_number(s) for s in slides for _ in s.lesion])
    normal = torch.tensor([_number(s, benign=True) for s in slides for _ in s.lesion])
    stained = (images.amin(3) < 215).float()
    targets = {}
    for grid in GRIDS:
        side, rows = round(grid**0.5), torch.arange(len(images))
        share = pool_grid(shares.flatten(1).unsqueeze(-1), grid).squeeze(-1)
        # a tenth of the patch is a lesion to a pathologist; coarser cells dilute it less
        present = (share / (0.10 if grid == 1 else 0.3)).clamp(0, 1)
        tissue = stained.view(len(images), side, pixels // side, side, pixels // side).mean((2, 4)).flatten(1)
        weight = (tissue / 0.15).clamp(0, 1)
        target = torch.zeros(len(images), grid, len(CLASSES))
        target[rows, :, normal] += weight * (1 - present)
        target[rows, :, lesion] += weight * present
        targets[grid] = target
    return images, targets


def _small(slide: PoolSlide, pixels: int) -> Tensor:
    batches = PatchStore(slide.store).batches(32)
    return torch.cat([resize(torch.from_numpy(b), pixels).permute(0, 2, 3, 1) for b in batches])


def _number(slide: PoolSlide, benign: bool = False) -> int:
    organ = next(o for o in ORGANS if o.name == slide.spec.organ)
    return _NUMBER[organ.name, organ.benign.text if benign else slide.spec.diagnosis]


@torch.inference_mode()
def _patch_accuracy(classifier: CellClassifier, images: Tensor, targets: dict[int, Tensor]) -> dict[str, float]:
    """On cells that are clearly one class: share right, and share of normal ones called a lesion."""
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
    """Tokens of every slide at the finest trained T, in several stain variants; the first is as scanned."""
    random = np.random.default_rng([seed, 5])
    learnt = []
    for slide in slides:
        images = as_pixels(_small(slide, pixels))
        tokens = []
        for view in range(views):
            power = 1.0 if view == 0 else 1 + 0.24 * (torch.from_numpy(random.random((1, 3, 1, 1))).float() - 0.5)
            stained = ((images + 1) / 2 + 1e-3) ** power * 2 - 1
            hidden = model.model.vision_tower(pixel_values=stained).last_hidden_state
            tokens.append(pool_grid(hidden, max(GRIDS)).half().float().numpy())
        share = slide.lesion.mean((1, 2))
        label, normal = _number(slide), _number(slide, benign=True)
        patch_labels = np.where(share > 0.05, label, normal)
        learnt.append(LearntSlide(slide.spec.organ, label, tuple(tokens), patch_labels))
    return learnt


def _stream(slides: list[LearntSlide], recipe: Recipe) -> Iterator[list[TrainingCase]]:
    """Batches without end, each of one T; cases grow from 1–3 slides to `MAX_SLIDES` over the first half."""
    rng = np.random.default_rng([recipe.seed, 6])
    by_label = _by_label(slides)
    for step in range(recipe.writer_steps + 1):
        most = int(np.clip(3 + step / (0.4 * recipe.writer_steps) * (MAX_SLIDES - 3), 3, MAX_SLIDES))
        grid = int(rng.choice(GRIDS))
        size = max(3, 12 // (1 + most // 5) * (2 if grid == 1 else 1))
        yield [_case(rng, by_label, int(rng.integers(1, most + 1)), grid, thin=True) for _ in range(size)]


def _by_label(slides: list[LearntSlide]) -> ByLabel:
    return {n: [s for s in slides if s.label == n] for n in range(len(CLASSES))}


def _case(rng: np.random.Generator, by_label: ByLabel, count: int, grid: int, thin: bool) -> TrainingCase:
    """A case composed of pool slides: its lesion on one to three of `count` slides, the others benign."""
    organ: Organ = ORGANS[rng.integers(len(ORGANS))]
    found = organ.diagnoses[rng.integers(len(organ.diagnoses))]
    lesion_on = np.zeros(count, bool)
    if found is not organ.benign:
        lesion_on[rng.choice(count, int(rng.integers(1, min(3, count) + 1)), replace=False)] = True
    normal, lesion = _NUMBER[organ.name, organ.benign.text], _NUMBER[organ.name, found.text]
    tokens, labels = [], []
    for shown in lesion_on:
        options = by_label[lesion if shown else normal]
        slide = options[rng.integers(len(options))]
        keep = _kept(rng, slide.patch_labels, lesion if shown else normal) if thin else slice(None)
        view = slide.tokens[rng.integers(len(slide.tokens))][keep]
        tokens.append(pool_grid(torch.from_numpy(view), grid).numpy())
        labels.append(slide.patch_labels[keep])
    text = write_report(organ, found, [bool(v) for v in lesion_on])
    return TrainingCase(tokens, text, Truth(labels, [lesion if s else normal for s in lesion_on]))


def _kept(rng: np.random.Generator, labels: NDArray[np.int64], wanted: int) -> NDArray[np.intp]:
    """A random part of a slide's patches, in order, that still shows what the slide shows."""
    keep = rng.random(len(labels)) < rng.uniform(0.4, 1.0)
    showing = np.flatnonzero(labels == wanted)
    if len(showing):
        keep[rng.choice(showing)] = True
    return np.flatnonzero(keep) if keep.any() else np.arange(len(labels))


def _exact(trainer: WriterTrainer, slides: list[LearntSlide], low: int, high: int, grid: int, n: int = 100) -> float:
    rng = np.random.default_rng([7, low, grid])
    by_label = _by_label(slides)
    cases = [_case(rng, by_label, int(rng.integers(low, high + 1)), grid, thin=False) for _ in range(n)]
    right = [ok for i in range(0, n, 10) for ok in trainer.exact(cases[i : i + 10])]
    return round(float(np.mean(right)), 3)
