"""Positions of a checkpoint's global layers, and what becomes of them in sequences longer than it has positions for."""

from __future__ import annotations

from typing import Any

from wsi_pipeline.errors import ModelError

NO_POSITIONS = 1e7
"""RoPE divided by this is none: all positions look alike."""


def stretch(text_config: Any, longest: int) -> float:
    """Times which the positions of global layers are stretched for sequences of `longest` tokens; 1 for not at all.

    Raises:
        ModelError: they are scaled already, in a way that cannot be stretched further.
    """
    times = longest / text_config.max_position_embeddings
    rope = text_config.rope_parameters["full_attention"]
    if times <= 1 or rope.get("factor", 1.0) >= NO_POSITIONS:
        return 1.0
    if rope["rope_type"] not in ("default", "linear"):
        raise ModelError(
            f"--context-tokens {longest}",
            f"is more than the {text_config.max_position_embeddings:,} positions of the checkpoint, which are "
            f"scaled by {rope['rope_type']!r} already",
            "ask for no more than that",
        )
    return float(times)


def stretched(config: Any, longest: int) -> Any:
    """A Gemma 3 configuration whose global layers have positions for `longest` tokens: linear scaling of RoPE.

    Source: S. Chen et al., Extending Context Window of Large Language Models via Positional Interpolation, 2023,
    arXiv:2306.15595. Local layers see no further than their window and stay as they are.

    Raises:
        ModelError: they cannot be stretched.
    """
    text = config.text_config
    if (times := stretch(text, longest)) > 1:
        rope = text.rope_parameters["full_attention"]
        rope |= {"rope_type": "linear", "factor": times * rope.get("factor", 1.0)}
        text.max_position_embeddings = longest
    return config
