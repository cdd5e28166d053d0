"""Attention on a long input without a mask over its length: of a chunk that is read, and of a word that is written.

In global layers the chunk looks at its past unmasked, through a fused kernel, and at itself under a small mask; both
are put together by their log-sum-exps, as in ring attention (Liu et al. 2023, arXiv:2310.01889). In local layers the
mask is as wide as chunk and window. Where no image of the chunk has more than one token, a GPU's bfloat16 kernels need
no mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

CHUNKED, LOOKING = "chunked", "looking"
"""Names among transformers' attention implementations, which make no mask for names they do not know."""
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Under masks, not cuDNN's: these lengths differ from chunk to chunk, and it plans anew for every shape (0.07 s)."""
_PAST = 32_768
"""Keys that cuDNN's kernel takes at a time, so that shapes repeat. On a Hopper GPU it is 2.3 times as fast as PyTorch's
own (decision 14)."""
_STRETCH = 4096
"""Keys of one product when a word is written: few rows over a long input keep few of a GPU's cores busy, and at lengths
that are no multiple of eight they are not even read in whole words."""

Seen = tuple[Tensor, Tensor]
"""(B, H, q, d) and its log-sum-exp (B, H, q), in float32."""


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
            each other both ways. Images lie whole in one chunk. None where no image has more than one token.

    Returns:
        (B, q, H, d), and no weights.
    """
    unmasked = images is None and query.is_cuda and query.dtype != torch.float32
    if sliding_window:
        if unmasked:
            seen = _local(query, key, value, scaling, sliding_window)
        else:
            seen = _local_masked(query, key, value, scaling, sliding_window, images)
    else:
        past = key.shape[2] - query.shape[2]
        own = (query, key[:, :, past:], value[:, :, past:], scaling)
        itself = _causal(*own) if unmasked else _masked(*own, _visible(0, query.shape[2], None, images, query.device))
        seen = reduce(_joined, _of_past(query, key[:, :, :past], value[:, :, :past], scaling), itself)[0]
    return seen.to(query.dtype).transpose(1, 2).contiguous(), None


def looking_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, Tensor]:
    """As transformers calls it, for one query: it sees all keys, those of a local layer being its window (`Memory`).

    Heads that share keys share a product, and long keys are taken in stretches, of which nothing is copied.

    Returns:
        (B, 1, H, d), and the weights (B, H, 1, past + 1).
    """
    batch, heads, width = query.shape[0], query.shape[1], query.shape[3]
    grouped = query.reshape(batch, key.shape[1], -1, width)
    weights = _products(grouped, key.mT).float().mul_(scaling).softmax(-1).to(value.dtype)
    seen = _sums(weights, value).reshape(batch, heads, 1, width)
    return seen.transpose(1, 2).contiguous(), weights.reshape(batch, heads, 1, -1)


def _products(query: Tensor, key: Tensor) -> Tensor:
    """(B, H, n, d) times (B, H, d, L): (B, H, n, L)."""
    whole = key.shape[3] // _STRETCH
    if not whole:
        return query @ key
    found = query.new_empty(*query.shape[:3], key.shape[3])
    split = whole * _STRETCH
    for at in np.ndindex(*query.shape[:2]):
        # keys of one head are a view of the memory; of all heads at once, they would be copied
        stretches = key[at][:, :split].view(-1, whole, _STRETCH).movedim(1, 0)
        found[at][:, :split] = (query[at] @ stretches).movedim(0, 1).flatten(1)
    found[..., split:] = query @ key[..., split:]
    return found


def _sums(weights: Tensor, value: Tensor) -> Tensor:
    """(B, H, n, L) times (B, H, L, d): (B, H, n, d)."""
    whole = value.shape[2] // _STRETCH
    if not whole:
        return weights @ value
    split = whole * _STRETCH
    found = weights[..., split:] @ value[:, :, split:]
    for at in np.ndindex(*value.shape[:2]):
        shares = weights[at][:, :split].view(-1, whole, _STRETCH).movedim(1, 0)
        values = value[at][:split].view(whole, _STRETCH, -1)
        found[at] += (shares @ values).float().sum(0).to(value.dtype)
    return found


def _local(query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int) -> Tensor:
    """Of the last tokens of `key`, each of which sees the window before it; (B, H, q, d)."""
    lengths = query.shape[2], key.shape[2]
    found: Tensor = torch.ops.aten._flash_attention_forward(
        *(t.transpose(1, 2) for t in (query, key, value)),
        None, None, *lengths, 0.0, True, False, scale=scaling, window_size_left=window - 1, window_size_right=0,
    )[0]  # fmt: skip
    return found.transpose(1, 2)


def _local_masked(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int, images: Tensor | None
) -> Tensor:
    """The same, where tokens of an image see each other."""
    chunk = query.shape[2]
    visible = _visible(key.shape[2] - chunk, chunk, window, images, query.device)
    # a mask and heads that share keys take PyTorch to arithmetic in float32, on a GPU at a third of the speed
    key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
    with sdpa_kernel(_KERNELS):
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, scale=scaling)


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


def _masked(query: Tensor, key: Tensor, value: Tensor, scaling: float, visible: Tensor) -> Seen:
    batch, heads, chunk, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, chunk, width)
    scores = (grouped @ key.unsqueeze(2).mT).float() * scaling
    scores = scores.masked_fill(~visible, -torch.inf)
    weight = scores.logsumexp(-1)
    shares = (scores - weight.unsqueeze(-1)).exp_().to(value.dtype)
    return (shares @ value.unsqueeze(2)).float().view(query.shape), weight.view(batch, heads, chunk)


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Seen:
    """Each token sees itself and those before."""
    return _found(
        query,
        torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, True, False, scale=scaling),
    )


def _of_past(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Iterator[Seen]:
    """All of the past, by the kernels behind `scaled_dot_product_attention`, which hides the log-sum-exp."""
    past = key.shape[2]
    whole = past // _PAST * _PAST if query.dtype != torch.float32 and _planning(query.device) else 0
    if whole:
        yield from _planned(query, key[:, :, :whole], value[:, :, :whole], scaling)
    if past > whole:
        yield _unmasked(query, key[:, :, whole:], value[:, :, whole:], scaling)


def _planned(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Iterator[Seen]:
    """By cuDNN, so many keys at a time, and as many queries as a power of two: few shapes are planned."""
    chunk = query.shape[2]
    padded = functional.pad(query, (0, 0, 0, (1 << (chunk - 1).bit_length()) - chunk))
    for keys, values in zip(torch.split(key, _PAST, 2), torch.split(value, _PAST, 2), strict=True):
        yield _found(
            query,
            torch.ops.aten._scaled_dot_product_cudnn_attention(
                padded, keys, values, None, True, 0.0, False, False, scale=scaling
            ),
        )


@cache
def _planning(device: torch.device) -> bool:
    """Whether cuDNN's attention takes heads of 256 there: on Hopper, from 9.10 on, as PyTorch's own choice has it."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) == (9, 0) and (torch.backends.cudnn.version() or 0) >= 91_000  # type: ignore[no-untyped-call]


def _unmasked(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Seen:
    if query.device.type == "cpu":
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, False, scale=scaling)
    elif query.dtype == torch.float32:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
        found = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, False, scale=scaling
        )
    else:
        found = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, False, False, scale=scaling)
    return _found(query, found)


def _found(query: Tensor, found: Any) -> Seen:
    """Of what a kernel returns, which may hold more queries."""
    seen, weight = found[0], found[1]
    chunk = query.shape[2]
    return seen[:, :, :chunk].float(), weight.reshape(*weight.shape[:2], -1)[..., :chunk].float()


def _joined(one: Seen, other: Seen) -> Seen:
    """Of what was seen in two places, as if in one."""
    share = torch.sigmoid(one[1] - other[1]).unsqueeze(-1)
    return share * one[0] + (1 - share) * other[0], torch.logaddexp(one[1], other[1])


ALL_ATTENTION_FUNCTIONS.register(CHUNKED, chunked_attention)
ALL_ATTENTION_FUNCTIONS.register(LOOKING, looking_attention)
