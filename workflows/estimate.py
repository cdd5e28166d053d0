"""What a run would do and cost, without touching OUT: surveys the slides, plans, and times one patch here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask.system import CPU_COUNT

from reporters.gate import why_not
from reporters.plan import PartPlan
from workflows.case import Work, is_current, name_slides
from workflows.checkpoints import Model
from workflows.expected import SlideEstimate, expect
from workflows.run import check_cases
from wsi_pipeline.cases import Case, Part, refuse_mixed_patients
from wsi_pipeline.errors import ModelError, UsageError
from wsi_pipeline.models.checkpoint import BYTES
from wsi_pipeline.models.operations import of_encoding, of_reading
from wsi_pipeline.settings import RunSettings
from wsi_pipeline.store.outcome import SlideOutcome
from wsi_pipeline.store.paths import CaseFolder
from wsi_pipeline.store.tokens import STORED

_BYTES_PER_PIXEL = {"jpeg": 205 * 1024 / 768**2, "zstd": 1297 * 1024 / 768**2}
"""Measured on H&E at JPEG quality 90, 4:4:4, and for zstd level 3."""


_REACHED = 0.5
"""Of the rate of matrix products, by the encoder and by reading on one H200 (`benchmarks/results/gpu.txt`)."""
_LAYER_SECONDS = 1.1e-3
"""What it takes Python to ask for one layer when a word is written; measured there, and about the same on a CPU."""


@dataclass(frozen=True)
class CaseEstimate:
    """What is expected of one case.

    Attributes:
        case, slides: which.
        plans: how its parts would be read, in words.
        tokens: of all sequences.
        answers: are written, one per window and one more where they are merged, or a window is looked at again; slides
            that a search will read by themselves are not known.
        to_encode: patches whose tokens are not there yet.
        to_store: those tokens.
    """

    case: str
    slides: tuple[SlideEstimate, ...]
    plans: tuple[str, ...]
    tokens: int = 0
    answers: int = 0
    to_encode: int = 0
    to_store: int = 0


@dataclass(frozen=True)
class Estimate:
    """What is expected of a run on this machine."""

    cases: tuple[CaseEstimate, ...]
    model: str
    patch_bytes: int
    token_bytes: int
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
    slides = [slide for case in found for slide in case.slides]
    tiling = sum(slide.seconds for slide in slides) / min(settings.machine.workers, CPU_COUNT)
    seconds = tiling + _model_seconds(model, found, settings)
    size = settings.tile.patch_size**2 * _BYTES_PER_PIXEL[settings.tile.codec]
    patch_bytes = sum(slide.patches for slide in slides if not slide.tiled) * size
    return Estimate(found, settings.model.name, int(patch_bytes), _token_bytes(model, found), seconds / 3600)


def _case(case: Case, settings: RunSettings, model: Model, out: Path) -> CaseEstimate:
    work = Work(case, CaseFolder(out, case.id), settings, model)
    name_slides(work)
    if is_current(work):
        return CaseEstimate(case.id, (), ("up to date, nothing to do",))
    try:
        refuse_mixed_patients(case)
    except UsageError as error:
        return CaseEstimate(case.id, (), (str(error),))
    slides = expect(work)
    plans, tokens, answers, to_encode, to_store = [], 0, 0, 0, 0
    for part in case.parts:
        mine = {s.slide: s for s in slides if s.part == part.name}
        try:
            plan = _plan(part, mine, work)
        except ModelError as error:
            plans.append(f"{part.title}: {error}")
            continue
        if isinstance(plan, str):
            plans.append(f"{part.title}: {plan}")
            continue
        plans.append(
            f"{part.title}: {plan.strategy}, {plan.patches_read} of {plan.patches_found} patches, "
            f"{len(plan.sequences)} window(s), {plan.tokens_per_patch} token(s) per patch, {plan.tokens:,} tokens"
        )
        tokens += plan.tokens
        merged = plan.strategy != "search" and len(plan.windows) > 1
        answers += len(plan.sequences) + merged + bool(plan.second_look)
        new = sum(s.patches for s in mine.values() if s.patches and not _is_encoded(s, plan.finest, work))
        to_encode += new
        to_store += new * plan.finest
    return CaseEstimate(case.id, slides, tuple(plans), tokens, answers, to_encode, to_store)


def _plan(part: Part, slides: Mapping[str, SlideEstimate], work: Work) -> PartPlan | str:
    """How a part would be read, or why it would not."""
    read = {name: slide for name, slide in slides.items() if slide.patches}
    others = [
        work.outcomes.get(name) or SlideOutcome(slide=name, status="failed" if slide.problem else "no_tissue")
        for name, slide in slides.items()
        if name not in read
    ]
    if (reason := why_not(work.model.profile, {s.slide: s.phantom for s in read.values()}, others)) is not None:
        return reason
    return work.model.plan(part, {name: slide.patches for name, slide in read.items()}, work.settings)


def _is_encoded(slide: SlideEstimate, tokens_per_patch: int, work: Work) -> bool:
    from wsi_pipeline.encoders.encode import tokens_fingerprint

    model, name = work.model, work.names[slide.slide]
    tokens = tokens_fingerprint(str(model.revision), model.dtype, tokens_per_patch, name)
    return work.folder.tokens(slide.slide, tokens).exists()


def _token_bytes(model: Model, cases: Sequence[CaseEstimate]) -> int:
    """Before compression, which takes little off them."""
    if model.checkpoint is None:
        return 0
    one = model.checkpoint.config["vision_config"]["hidden_size"] * STORED[model.dtype].itemsize
    return int(sum(case.to_store for case in cases) * one)


def _model_seconds(model: Model, cases: Sequence[CaseEstimate], settings: RunSettings) -> float:
    """Operations against the rate of a matrix product measured here, of which `_REACHED` is reached."""
    tokens = sum(case.tokens for case in cases)
    if model.checkpoint is None or not tokens:
        return 0.0
    from transformers import SiglipVisionConfig

    vision = SiglipVisionConfig.from_dict(model.checkpoint.config["vision_config"])
    text = model.text_config
    patches, answers = sum(case.to_encode for case in cases), sum(case.answers for case in cases)
    # as if all answers rested on sequences of one length
    reading = answers * of_reading(text, tokens // answers)
    rate, bandwidth = _measured_rates(model)
    word = max(model.checkpoint.parameters * BYTES[model.dtype] / bandwidth, text.num_hidden_layers * _LAYER_SECONDS)
    drawn = settings.report.samples
    if drawn is None:
        drawn = model.calibration.made_for.samples if model.calibration else 0
    words = answers * (1 + drawn) * min(settings.report.max_new_tokens, 256)
    return float((patches * of_encoding(vision) + reading) / (_REACHED * rate) + words * word)


def _measured_rates(model: Model) -> tuple[float, float]:
    """Operations per second of a matrix product, and bytes per second of a copy, on the model's device."""
    import torch

    device, dtype = model.device, getattr(torch, model.dtype)
    side = 4096 if device == "cuda" else 1024  # a GPU is done with less before the next is asked for
    a = torch.randn(side, side, device=device, dtype=dtype)
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

    operations, moved = 2 * side**3, 2 * big.numel()
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
        f"{patches:,} patches, {found.patch_bytes / 2**20:,.0f} MiB of patches and "
        f"{found.token_bytes / 2**20:,.0f} MiB of their tokens to store, {tokens:,} tokens to read for {found.model}; "
        f"about {_duration(found.hours)} on this machine."
    )
    return "\n".join(lines)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
