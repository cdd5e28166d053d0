"""Families of released checkpoints, and how to tell which one a checkpoint belongs to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reporters.profiles.profile import CARD, Profile
from wsi_pipeline.errors import ModelError

_MERGE = (
    "Below are findings from different regions of the slides of one specimen, each with an id.\n"
    "{findings}\n"
    "Tissue: {tissue}\nProcedure: {procedure}\n"
    "Write the diagnosis of the specimen in a few sentences. After each sentence cite the ids of the findings "
    "it rests on in square brackets, as in [F1, F3]. State nothing that no finding supports."
)

MEDGEMMA_15 = Profile(
    name="medgemma-1.5",
    native_tokens=256,
    trained_tokens=(256,),
    context=32_768,
    strategy="windows",
    patch_size=896,
    mpps=(2.0, 1.0, 0.5),
    slide_marker="",
    # the wording of Table 9 of the MedGemma 1.5 report (arXiv 2604.05081), which it was trained with
    prompt=(
        "Provide a brief diagnostic text for the set of pathology patches extracted from a pathology slide. "
        "Consider the tissue type and procedure (below) when deciding what to include in the diagnostic text.\n"
        "Tissue: {tissue}\nProcedure: {procedure}\nContext: {context}"
    ),
    merge_prompt=_MERGE,
    opening="<bos><start_of_turn>user\n",
    closing="<end_of_turn>\n<start_of_turn>model\n",
    end="<end_of_turn>",
)

GEMMA_3 = MEDGEMMA_15.model_copy(
    update={
        "name": "gemma-3",
        "mpps": (1.0,),
        "prompt": (
            "The images are neighbouring regions of one H&E stained pathology slide, in reading order. "
            "Describe the diagnostic findings briefly.\n"
            "Tissue: {tissue}\nProcedure: {procedure}\nContext: {context}"
        ),
    }
)

MEDGEMMA_1 = GEMMA_3.model_copy(update={"name": "medgemma-1"})

FAMILIES = (MEDGEMMA_15, MEDGEMMA_1, GEMMA_3)


def find_profile(name: str, folder: Path, config: dict[str, Any]) -> Profile:
    """The checkpoint's own card, or the family its name tells, fitted to its configuration.

    Args:
        name: as the user gave it.
        folder: the checkpoint.
        config: its `config.json`.

    Raises:
        ModelError: no Gemma 3 with vision, or a damaged card.
    """
    card = folder / CARD
    if card.is_file():
        try:
            return Profile.model_validate_json(card.read_text())
        except ValidationError as error:
            raise ModelError(
                card, f"is no valid profile ({error.error_count()} errors)", "see docs/models.md"
            ) from None
    if config.get("model_type") != "gemma3" or "vision_config" not in config:
        raise ModelError(
            f"model {name!r}",
            f"is a {config.get('model_type')!r} without vision; only Gemma 3 with vision can read patches",
            "use google/medgemma-1.5-4b-it or another Gemma 3 with vision, or --model none",
        )
    label = re.sub(r"[^a-z0-9]", "", name.lower())
    family = MEDGEMMA_15 if "medgemma15" in label else MEDGEMMA_1 if "medgemma" in label else GEMMA_3
    native = int(config.get("mm_tokens_per_image", 256))
    limit = int(config.get("text_config", {}).get("max_position_embeddings") or family.context)
    return family.model_copy(
        update={"native_tokens": native, "trained_tokens": (native,), "context": min(family.context, limit)}
    )
