"""Build a small, untrained Gemma 3 with vision: the same classes as MedGemma, in a few million parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reporters.positions import NO_POSITIONS
from reporters.profiles import CARD, Profile

_SPECIAL = (
    "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>",
    "<start_of_image>", "<end_of_image>", "<image_soft_token>",
)  # fmt: skip
_PIECE = r"\n| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]"


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. `layers` is one letter each: S sliding window, F full attention."""

    pixels: int = 112
    vision_hidden: int = 128
    vision_layers: int = 4
    native_tokens: int = 16
    hidden: int = 128
    layers: str = "SSFSFS"
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    window: int = 96
    context: int = 8192


def build_tokenizer(texts: Iterable[str]) -> Any:
    """A word tokenizer over every piece in `texts`; spaces belong to the word behind them."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = sorted({piece for text in texts for piece in re.findall(_PIECE, text)})
    vocabulary = {token: i for i, token in enumerate([*_SPECIAL, *pieces])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        additional_special_tokens=list(_SPECIAL[4:]),
        clean_up_tokenization_spaces=False,
    )


def build_model(shape: Shape, tokenizer: Any, seed: int) -> Any:
    """A randomly initialised `Gemma3ForConditionalGeneration` whose projector is not zero.

    Full-attention layers get rotary positions stretched until they are none: what they learn at a few
    hundred patches then holds at lengths never trained on.
    """
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    torch.manual_seed(seed)
    ids = tokenizer.convert_tokens_to_ids
    kinds = {"S": "sliding_attention", "F": "full_attention"}
    text = Gemma3TextConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=shape.hidden,
        intermediate_size=2 * shape.hidden,
        num_hidden_layers=len(shape.layers),
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        query_pre_attn_scalar=shape.head_dim // 4,
        sliding_window=shape.window,
        max_position_embeddings=shape.context,
        layer_types=[kinds[letter] for letter in shape.layers],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": NO_POSITIONS, "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        pad_token_id=ids("<pad>"),
        eos_token_id=ids("<eos>"),
        bos_token_id=ids("<bos>"),
    )
    vision = SiglipVisionConfig(
        hidden_size=shape.vision_hidden,
        intermediate_size=2 * shape.vision_hidden,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=4,
        image_size=shape.pixels,
        patch_size=14,
        vision_use_head=False,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=shape.native_tokens,
        boi_token_index=ids("<start_of_image>"),
        eoi_token_index=ids("<end_of_image>"),
        image_token_index=ids("<image_soft_token>"),
    )
    model = Gemma3ForConditionalGeneration(config).eval()
    # transformers initialises this weight to zeros: the model would not see its images.
    # Normed vectors have unit mean square, so this scale gives soft tokens a root mean square of 1.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=shape.vision_hidden**-0.5)
    return model


def save_checkpoint(folder: Path, model: Any, tokenizer: Any, profile: Profile, shape: Shape) -> None:
    """Write weights, configuration, tokenizer, image processing and profile."""
    from transformers import GenerationConfig
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    end = tokenizer.convert_tokens_to_ids(profile.end)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=[tokenizer.eos_token_id, end],
        pad_token_id=tokenizer.pad_token_id, do_sample=False,
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": shape.pixels, "width": shape.pixels}
    Gemma3ImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    (folder / CARD).write_text(profile.model_dump_json(indent=1) + "\n")
