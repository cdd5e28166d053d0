"""What a run would do and cost, without touching OUT: surveys the slides, plans, and times one patch here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask.system import CPU_COUNT

from workflows.case import is_current
from workflows.checkpoints import Model
from workflows.run import check_cases
from wsi_pipeline.cases import Case, Slide
from wsi_pipeline.errors import ModelError, PipelineError
from wsi_pipeline.models.checkpoint import BYTES
from wsi_pipeline.settings import RunSettings

_BYTES_PER_PIXEL = {"jpeg": 205 * 1024 / 768**2, "zstd": 1297 * 1024 / 768**2}
"""Measured on H&E at JPEG quality 90, 4:4:4, and for zstd level 3."""


@dataclass(frozen=True)
class SlideEstimate:
    """What is expected of one slide; `problem` says why nothing is."""

    slide: str
    part: str | None
    mpp: float | None = None
    mpp_source: str = ""
    patches: int = 0
    seconds_per_patch: float = 0.0
    survey_seconds: float = 0.0
    problem: str | None = None


@dataclass(frozen=True)
class CaseEstimate:
    """What is expected of one case; `answers` are written, one per window and one more where they are merged."""

    case: str
    slides: tuple[SlideEstimate, ...]
    plans: tuple[str, ...]
    tokens: int
    answers: int


@dataclass(frozen=True)
class Estimate:
    """What is expected of a run on this machine."""

    cases: tuple[CaseEstimate, ...]
    model: str
    patch_bytes: int
    hours: float


def estimate(cases: Sequence[Case], settings: RunSettings, out: Path, download: bool = False) -> Estimate:
    """Survey every slide and add up patches, bytes, tokens and hours; cases that are up to date cost nothing.

    Raises:
        ModelError: the checkpoint is not on this machine (and may not be downloaded) or does not fit it.
        UsageError: what `run` would refuse.
    """
    check_cases(cases)
    model = Model(settings.model, download=download)
    model.check()
    settings = model.adapt(settings)
    found = tuple(_case(case, settings, model, out) for case in cases)
    patches = sum(s.patches for c in found for s in c.slides)
    tiling = sum(s.survey_seconds + s.patches * s.seconds_per_patch for c in found for s in c.slides)
    tiling /= min(settings.machine.workers, CPU_COUNT)
    seconds = tiling + _model_seconds(model, patches, found, settings)
    size = settings.tile.patch_size**2 * _BYTES_PER_PIXEL[settings.tile.codec]
    return Estimate(found, settings.model.name, int(patches * size), seconds / 3600)


def _case(case: Case, settings: RunSettings, model: Model, out: Path) -> CaseEstimate:
    if is_current(case, out, settings, model):
        return CaseEstimate(case.id, (), ("up to date, nothing to do",), 0, 0)
    slides = tuple(_slide(slide, settings) for slide in case.slides)
    counts = {s.slide: s.patches for s in slides if s.patches}
    plans, tokens, answers = [], 0, 0
    for part in case.parts:
        mine = {s.id: counts[s.id] for s in part.slides if s.id in counts}
        try:
            plan = model.plan(part, mine, settings) if model.profile and mine else None
        except ModelError as error:
            plans.append(f"{part.title}: {error}")
            continue
        if plan is None:
            plans.append(f"{part.title}: nothing for a model to read")
            continue
        plans.append(
            f"{part.title}: {plan.strategy}, {plan.patches_read} of {plan.patches_found} patches, "
            f"{len(plan.windows)} window(s), {plan.tokens_per_patch} token(s) per patch, {plan.tokens:,} tokens"
        )
        tokens += plan.tokens
        answers += len(plan.windows) + (len(plan.windows) > 1)
    return CaseEstimate(case.id, slides, tuple(plans), tokens, answers)


def _slide(slide: Slide, settings: RunSettings) -> SlideEstimate:
    from tilers.tile import patch_level, read_patch, survey

    if slide.missing or not slide.is_he:
        return SlideEstimate(slide.id, slide.part, problem="missing" if slide.missing else f"not read: {slide.stain}")
    begun = time.perf_counter()
    try:
        found = survey(slide, settings.tile)
    except PipelineError as error:
        return SlideEstimate(slide.id, slide.part, problem=error.reason)
    surveyed = time.perf_counter() - begun
    with closing(found.reader):
        seconds = 0.0
        if len(found.candidates):
            level = patch_level(found.reader, settings.tile.mpp, found.resolution.mpp)
            x, y = (int(v) for v in found.grid.origins[found.candidates[0]])
            started = time.perf_counter()
            try:
                read_patch(found.reader, found.grid, level, (x, y), settings.tile.patch_size)
            except Exception:  # a sample; tiling itself will say what is wrong
                seconds = 0.1
            seconds += time.perf_counter() - started + 0.01
        return SlideEstimate(
            slide.id,
            slide.part,
            found.resolution.mpp,
            found.resolution.source,
            len(found.candidates),
            seconds,
            surveyed,
        )


def _model_seconds(model: Model, patches: int, cases: Sequence[CaseEstimate], settings: RunSettings) -> float:
    """Two operations per parameter and token, against the rate of a matrix product measured here."""
    if model.checkpoint is None or not patches:
        return 0.0
    vision: dict[str, Any] = model.checkpoint.config["vision_config"]
    grid = (vision["image_size"] // vision["patch_size"]) ** 2
    per_layer = 4 * vision["hidden_size"] ** 2 + 2 * vision["hidden_size"] * vision["intermediate_size"]
    tower = 2 * vision["num_hidden_layers"] * per_layer * grid * patches
    tokens = sum(case.tokens for case in cases)
    answers = sum(case.answers for case in cases)
    reading = 2 * model.checkpoint.parameters * tokens
    weight_bytes = model.checkpoint.parameters * BYTES[model.dtype]
    rate, bandwidth = _measured_rates(model)
    writing = answers * min(settings.report.max_new_tokens, 256) * weight_bytes / bandwidth
    return float((tower + reading) / (0.5 * rate) + writing)


def _measured_rates(model: Model) -> tuple[float, float]:
    """Operations per second of a matrix product, and bytes per second of a copy, on the model's device."""
    import torch

    device, dtype = model.device, getattr(torch, model.dtype)
    a = torch.randn(1024, 1024, device=device, dtype=dtype)
    big = torch.empty(64 * 2**20, dtype=torch.uint8, device=device)

    def timed(work: Any) -> float:
        work()
        started = time.perf_counter()
        for _ in range(5):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds: float = time.perf_counter() - started
        return seconds / 5

    operations, moved = 2 * 1024**3, 2 * big.numel()
    return operations / timed(lambda: a @ a), moved / timed(big.clone)


def describe(found: Estimate) -> str:
    """The estimate in lines."""
    lines = []
    for case in found.cases:
        lines.append(f"{case.case}")
        for s in case.slides:
            part = f" part {s.part}" if s.part else ""
            what = s.problem or f"{s.mpp:.4g} µm/px ({s.mpp_source}), about {s.patches} patches"
            lines.append(f"  slide {s.slide}{part}: {what}")
        lines += [f"  {plan}" for plan in case.plans]
    slides = [s for case in found.cases for s in case.slides]
    patches = sum(s.patches for s in slides)
    tokens = sum(case.tokens for case in found.cases)
    lines.append(
        f"{len(found.cases)} cases, {len(slides)} slides ({sum(s.problem is not None for s in slides)} not usable), "
        f"{patches:,} patches, {found.patch_bytes / 2**20:,.0f} MiB of patches, {tokens:,} tokens for {found.model}; "
        f"about {_duration(found.hours)} on this machine."
    )
    return "\n".join(lines)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
