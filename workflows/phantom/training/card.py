"""The model card of a phantom checkpoint, from the figures of its training and the tables measured since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workflows.phantom.training.recipe import STREAMS

_CARD = """\
# {title}

A Gemma 3 with vision ({millions:.2f} M parameters, float32) in the same classes as MedGemma
(`Gemma3ForConditionalGeneration`, SigLIP tower), trained on phantom slides only. It makes the pipeline's main
job run offline and its quality measurable.

**It knows nothing about patients.** On a slide that is not a phantom it is not allowed to write a diagnosis.

## How it was made

By the steps of `wsi-pipeline phantom train --out FOLDER{option}` (`workflows/phantom/training/recipe.py`
has all sizes), phantom version {phantom_version}, seed {seed}: slides {pool} min, tower {tower} min{tokens}, writer
{writer} min; what was there already took none.{history}

1. The vision tower, whose patch embedding begins with principal components of patches, learns organ × diagnosis,
   mimics and artefacts of whole patches, their quarters and sixteenths ({tower_cycles} steps of {batch:,} patches on
   {device}): of patches cut anywhere from {lesion_sheets:,} sheets crowded with lesions and {mimic_sheets:,} crowded
   with mimics, half of them put together from quarters of two.
2. {slide_count:,} other slides of the training seeds, which join in turns ({joining}), are made, tiled and encoded by
   the pipeline itself: {patches:,} patches the tower has never seen.
3. The language model learns to write the report of parts composed patch by patch of those slides: 1 to 12 slides, or a
   few large ones (up to {large:,} patches at 1 token per patch, {large_fine:,} at 4), at 1 and 4 tokens per patch
   and at both; to conclude from given lines; and to merge the conclusions of windows ({cycles} steps, of which
   in turn every {texts} is text alone; the loss is on the answer, three auxiliary heads are thrown away).
   Cycle by cycle, the slides of {anywhere} of the parts count from any number instead of one.
{long}{second}
## Input

{pixels} px per patch, 16 native tokens averaged to {averaged}; every slide opens with `Slide n:`, repeated after every
6 (T = 4) or 8 (T = 1) patches and at its end; full-attention layers carry no positions. `wsi_profile.json` holds
the same for programs. Plans: {plans}; `groups` and `windows` with a merging pass.

## On held-out slides (calibration seeds; composed parts, from tokens)

Patches count where they are clearly one class. Reports are composed of the same few slides again and again: they
tell whether training went well, and are no measure of the checkpoint.

| measure | value |
|---|---|
{rows}

Answer loss over training{every}: {curve}.
{tables}
## Limits

The diagnoses of four organs, stylised; at most two findings per part, each on slides of its own; texts of one fixed
form. {limits} Confidence is shown where
`wsi_calibration.json` lies beside the weights (`wsi-pipeline phantom calibrate`). Licence: Apache-2.0.
"""
_SECOND = """
Beside the weights lies a second reader, a classifier of single patches by their tokens: of the same slides, and of
{faint_slides:,} more whose lesions are fainter than the writer learns from (docs/decisions/0024-second-reader.md).
"""
_NTH = {1: "single", 2: "2nd", 3: "3rd"}
_USUAL = {
    "title": "Phantom checkpoint",
    "option": "",
    "long": "",
    "averaged": "4 or 1",
    "plans": "`joint`, `mixed` and `search`",
    "limits": """\
At most 12 slides. Sequences in training had at most some 1,150 tokens; up to its context it rests on layers without
positions, and on what the needle measured (docs/long-context.md).""",
}
_LONG = {
    "title": "Phantom checkpoint for long parts",
    "option": " --recipe long",
    "long": """\
4. Then it learns from rows of {row:,} tokens of cases behind one another, on one H200 ({steps:,} steps): parts of up
   to {slides} slides and {tokens:,} tokens, half of the long ones without any lesion, focal lesions down to a single
   patch; and for {settled:,} steps more on usual parts with {noise:.0%} of noise on their tokens
   (docs/decisions/0018-long-rows.md).
""",
    "averaged": "1",
    "plans": "`joint`",
    "limits": """\
At most 50 slides. docs/long-context.md says what it reads wrongly.""",
}


def model_card(figures: Mapping[str, Any], tables: Mapping[str, str] | None = None, history: str = "") -> str:
    """Markdown for the checkpoint's folder.

    Args:
        figures: what `train` returns.
        tables: printed benchmarks by heading.
        history: how these very weights came about, if not by one run.
    """
    writer, long = figures["recipe"]["writer"], figures["recipe"].get("long")
    kind = _USUAL | ({"option": " --recipe cpu"} if figures["recipe"]["device"] == "cpu" else {})
    if long:
        settled = {"settled": long["settle"]["steps"], "noise": long["settle"]["noise"]}
        kind = _LONG | {"long": _LONG["long"].format(**long, **settled)}
    measured = {f"patches, {k}": v for k, v in figures["held_out_patch_accuracy"].items()}
    measured |= {f"exact whole reports, {k}": v for k, v in figures["held_out_exact_reports"].items()}
    rows = "\n".join(f"| {name} | {value} |" for name, value in measured.items())
    curve = ", ".join(f"{loss:g}" for loss in figures["answer_loss"])
    printed = [f"\n## {heading}\n\n```text\n{text.rstrip()}\n```\n" for heading, text in (tables or {}).items()]
    spent = figures["minutes"].get("tokens")
    return _CARD.format(
        **{k: v for k, v in {**figures, **figures["recipe"]}.items() if isinstance(v, int)},
        **figures["minutes"] | {"tokens": f", tokens {spent} min" if spent else ""},
        **kind,
        second=_SECOND.format(**figures) if figures.get("faint_slides") else "",
        large=max(cycle["patches"][0] for cycle in writer),
        large_fine=max(cycle["patches"][1] for cycle in writer),
        cycles=_cycles([cycle["steps"] for cycle in writer]),
        texts=", ".join(_NTH.get(cycle["texts"], f"{cycle['texts']}th") for cycle in writer),
        slide_count=sum(figures["slides"]),
        joining=_cycles(figures["slides"]),
        anywhere=", ".join(f"{cycle['anywhere']:.0%}" for cycle in writer),
        tower_cycles=_cycles([cycle["steps"] for cycle in figures["recipe"]["tower"]]),
        pixels=figures["recipe"]["shape"]["pixels"],
        device="a GPU" if figures["recipe"]["device"] == "cuda" else "two cores",
        batch=figures["recipe"]["tower"][-1]["batch"] * (STREAMS if figures["recipe"]["device"] == "cpu" else 1),
        millions=figures["parameters"] / 1e6,
        rows=rows,
        curve=curve,
        every=f", every {every:,} steps" if (every := figures.get("answer_loss_every")) else "",
        tables="".join(printed),
        history=f" {history}" if history else "",
    )


def _cycles(steps: Sequence[int]) -> str:
    return " + ".join(f"{n:,}" for n in steps)
