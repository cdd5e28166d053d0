"""Attention on a long input without a mask over its length: of a chunk that is read, and of a word that is written.

In global layers the chunk looks at its past unmasked, through a fused kernel, and at itself under a small mask; both
are put together by their log-sum-exps, as in ring attention (Liu et al. 2023, arXiv:2310.01889). In local layers the
mask is as wide as chunk and window.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

CHUNKED, LOOKING = "chunked", "looking"
"""Names among transformers' attention implementations, which make no mask for names they do not know."""
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Not cuDNN's, which plans anew for every length."""


def chunked_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    sliding_window: int | None = None,
    images: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: queries (B, H, q, d) of the chunk, keys and values (B, H', past + q, d).

    Args:
        module, attention_mask: not used.
        query, key, value: of this layer.
        scaling: of products of queries and keys.
        sliding_window: of local layers.
        images: (q,) number of the image that a token of the chunk belongs to, below 0 for none: tokens of an image see
            each other both ways. Images lie whole in one chunk.

    Returns:
        (B, q, H, d), and no weights.
    """
    chunk = query.shape[2]
    past = key.shape[2] - chunk
    visible = _visible(past if sliding_window else 0, chunk, sliding_window, images, query.device)
    if sliding_window:
        # a mask and heads that share keys take PyTorch to arithmetic in float32, on a GPU at a third of the speed
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
        with sdpa_kernel(_KERNELS):
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scaling)
    else:
        seen, weight = _masked(query, key[:, :, past:], value[:, :, past:], visible, scaling)
        if past:
            seen = _joined(seen, weight, *_unmasked(query, key[:, :, :past], value[:, :, :past], scaling))
    return seen.to(query.dtype).transpose(1, 2).contiguous(), None


def looking_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, Tensor]:
    """As transformers calls it, for one query: it sees all keys, those of a local layer being its window (`Memory`).

    Heads that share keys share a product, so that nothing is copied.

    Returns:
        (B, 1, H, d), and the weights (B, H, 1, past + 1).
    """
    batch, heads, width = query.shape[0], query.shape[1], query.shape[3]
    grouped = query.reshape(batch, key.shape[1], -1, width)
    weights = ((grouped @ key.mT).float() * scaling).softmax(-1).to(value.dtype)
    seen = (weights @ value).reshape(batch, heads, 1, width)
    return seen.transpose(1, 2).contiguous(), weights.reshape(batch, heads, 1, -1)


def _visible(past: int, chunk: int, window: int | None, images: Tensor | None, device: torch.device) -> Tensor:
    """(chunk, past + chunk) whether a token sees another."""
    queries = torch.arange(past, past + chunk, device=device)[:, None]
    keys = torch.arange(past + chunk, device=device)[None]
    visible = keys <= queries
    if window:
        visible &= keys > queries - window
    if images is not None:
        same = (images[:, None] == images[None]) & (images[:, None] >= 0)
        visible[:, past:] |= same
    return visible


def _masked(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """(B, H, q, d) and its log-sum-exp (B, H, q), in float32."""
    batch, heads, chunk, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, chunk, width)
    scores = (grouped @ key.unsqueeze(2).mT).float() * scaling
    scores = scores.masked_fill(~visible, -torch.inf)
    weight = scores.logsumexp(-1)
    shares = (scores - weight.unsqueeze(-1)).exp_().to(value.dtype)
    return (shares @ value.unsqueeze(2)).float().view(query.shape), weight.view(batch, heads, chunk)


def _unmasked(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """The same over all keys, by the kernels behind `scaled_dot_product_attention`, which hides the log-sum-exp."""
    if query.device.type == "cpu":
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, False, scale=scaling)
    elif query.dtype == torch.float32:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
        found = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, False, scale=scaling
        )
    else:
        found = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, False, False, scale=scaling)
    # kernels may pad the log-sum-exp
    return found[0].float(), found[1][..., : query.shape[2]].float()


def _joined(one: Tensor, one_weight: Tensor, other: Tensor, other_weight: Tensor) -> Tensor:
    share = torch.sigmoid(one_weight - other_weight).unsqueeze(-1)
    return share * one + (1 - share) * other


ALL_ATTENTION_FUNCTIONS.register(CHUNKED, chunked_attention)
ALL_ATTENTION_FUNCTIONS.register(LOOKING, looking_attention)
