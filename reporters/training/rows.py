"""How the cases of a batch lie: each in a row of its own, padded to one length, or all behind one another in one row.

One row wastes nothing on cases of very different length, and all rows have one shape. Its tokens see their own case
alone: on a GPU flex attention skips the blocks of other cases (Dong et al. 2024, arXiv:2412.05496), so that no mask is
as large as the row. It has no gradients on a CPU, where a mask is made, and rows should be short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_mask, flex_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_BLOCK = 128
LARGEST_IMAGE = 64
"""Tokens. An image may reach into the next block, not further, and not beyond a window."""
_PACKED = "packed"


@dataclass(frozen=True)
class Padded:
    """A row for each case.

    Attributes:
        mask: (B, L) 1 on tokens, 0 on padding.
        types: (B, L) 1 on soft tokens that attend within their image.
    """

    mask: Tensor
    types: Tensor

    def to(self, device: torch.device) -> Padded:
        """The same there."""
        return Padded(self.mask.to(device), self.types.to(device))

    def states(self, model: Any, embeds: Tensor) -> tuple[Tensor, Any]:
        """Last hidden state (B, L, D) of a `Gemma3ForConditionalGeneration`, and those of all layers."""
        out = model.model(
            inputs_embeds=embeds,
            attention_mask=self.mask,
            token_type_ids=self.types,
            output_hidden_states=True,
            use_cache=False,
        )
        return out.last_hidden_state, out.hidden_states


@dataclass(frozen=True)
class Packed:
    """One row for all cases.

    Attributes:
        starts: (L,) where the case of a token starts.
        images: (L,) number of the image whose tokens all see each other; below 0 for none.
    """

    starts: Tensor
    images: Tensor

    def to(self, device: torch.device) -> Packed:
        """The same there."""
        return Packed(self.starts.to(device), self.images.to(device))

    def states(self, model: Any, embeds: Tensor) -> tuple[Tensor, Any]:
        """Last hidden state (1, L, D) of a `Gemma3ForConditionalGeneration`, and those of all layers."""
        text = model.model.language_model
        before = text.config._attn_implementation
        text.set_attn_implementation(_PACKED)
        masks = {"full_attention": None, "sliding_attention": text.config.sliding_window}
        visible = self.blocks if embeds.is_cuda else self.mask
        out = text(
            inputs_embeds=embeds,
            attention_mask={layers: visible(window) for layers, window in masks.items()},
            position_ids=(torch.arange(len(self.starts), device=self.starts.device) - self.starts)[None],
            output_hidden_states=True,
            use_cache=False,
        )
        text.set_attn_implementation(before)
        return out.last_hidden_state, out.hidden_states

    def mask(self, window: int | None) -> Tensor:
        """(1, 1, L, L) which tokens see which, in layers with a window or without."""
        length = len(self.starts)
        seen: Tensor = create_mask(self._seen(self._first(window)), None, None, length, length, self.starts.device.type)
        return seen

    def blocks(self, window: int | None) -> BlockMask:
        """The same, and which blocks of tokens need not be looked at."""
        images, length, first = self.images, len(self.starts), self._first(window)
        number = torch.arange(-(-length // _BLOCK), device=first.device)
        begin, end = number * _BLOCK, (number * _BLOCK + _BLOCK - 1).clamp_max(length - 1)
        # an image that the border of two blocks cuts reaches into the next
        behind = (end + 1).clamp_max(length - 1)
        reaching = (images[end] == images[behind]) & (images[end] >= 0)
        lowest = first[begin] // _BLOCK
        there = (number >= lowest[:, None]) & (number <= (number + reaching)[:, None])
        whole = (number * _BLOCK >= first[end][:, None]) & (number < number[:, None])
        return BlockMask.from_kv_blocks(
            *_listed(there & ~whole),
            *_listed(whole),
            BLOCK_SIZE=_BLOCK,
            mask_mod=self._seen(first),
            seq_lengths=(length, length),
        )

    def _first(self, window: int | None) -> Tensor:
        """(L,) the first token that each sees."""
        if window is None:
            return self.starts
        return torch.maximum(self.starts, torch.arange(len(self.starts), device=self.starts.device) - window + 1)

    def _seen(self, first: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        images = self.images

        def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            before = (key <= query) & (key >= first[query])
            return before | ((images[query] == images[key]) & (images[query] >= 0))

        return seen


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many of each row of a (q, k) mask, and their numbers first."""
    counts = blocks.sum(1, dtype=torch.int32)
    numbers = blocks.to(torch.int8).argsort(stable=True, dim=1, descending=True).to(torch.int32)
    return counts[None, None], numbers[None, None]


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention)


def _packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: BlockMask | Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """As transformers calls it: queries (B, H, L, d), keys and values (B, H', L, d)."""
    if isinstance(attention_mask, BlockMask):
        seen = _compiled()(query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=True)
    else:
        seen = functional.scaled_dot_product_attention(
            query, key, value, attention_mask, scale=scaling, enable_gqa=True
        )
    return seen.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(_PACKED, _packed_attention)
