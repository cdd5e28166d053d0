"""Floating point operations of a Gemma 3 with vision, counted from its configuration: a product takes two."""

from __future__ import annotations

from typing import Any


def of_encoding(vision: Any) -> float:
    """One image: products with weights, and within attention.

    Args:
        vision: a `SiglipVisionConfig`.
    """
    tokens = (vision.image_size // vision.patch_size) ** 2
    hidden, inner = vision.hidden_size, vision.intermediate_size
    layer = 2 * tokens * (4 * hidden**2 + 2 * hidden * inner) + 4 * tokens**2 * hidden
    return float(vision.num_hidden_layers * layer + 2 * tokens * 3 * vision.patch_size**2 * hidden)


def of_reading(text: Any, tokens: int) -> float:
    """An input: products of every token with weights, and of queries with the keys they see.

    Args:
        text: a `Gemma3TextConfig`.
        tokens: of the input.
    """
    hidden, width = text.hidden_size, text.head_dim
    heads = 2 * text.num_attention_heads + 2 * text.num_key_value_heads
    weights = hidden * width * heads + 3 * hidden * text.intermediate_size
    total = 0.0
    for kind in text.layer_types:
        seen = tokens / 2 if kind == "full_attention" else min(text.sliding_window, tokens / 2)
        total += 2 * tokens * weights + 4 * tokens * seen * text.num_attention_heads * width
    return total
