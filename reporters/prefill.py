"""Read an input of any length, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from reporters.attention import CHUNKED
from reporters.memory import Memory
from reporters.sequence import ReadTokens, Sequence
from wsi_pipeline.errors import ModelError
from wsi_pipeline.events import emit
from wsi_pipeline.models.memory import ran_out

CHUNK = {"cuda": 4096, "cpu": 512}
"""Tokens by device. With less, a GPU waits for the next layer of a 4B model to be asked for; with more, a CPU spends
most of its time on scores that the masks of a small model throw away."""
_SMALLEST = 64


def image_numbers(types: NDArray[np.int64]) -> NDArray[np.int64]:
    """(L,) number of the image each token belongs to, -1 for none: images are runs of types 1."""
    starts = (types == 1) & (np.diff(types, prepend=0) == 1)
    return np.where(types == 1, starts.cumsum() - 1, -1)


def chunks(types: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Stretches of at most `most` tokens that divide no image; a longer image is one of its own."""
    length = len(types)
    # a cut before token i is allowed where i - 1 and i are not both of one image
    allowed = np.flatnonzero(~((types[1:] == 1) & (types[:-1] == 1))) + 1 if length else np.zeros(0, int)
    allowed = np.append(allowed, length)
    first = 0
    while first < length:
        place = int(np.searchsorted(allowed, first + most, side="right")) - 1
        last = int(allowed[place]) if place >= 0 and allowed[place] > first else int(allowed[allowed > first][0])
        yield first, last
        first = last


@torch.inference_mode()
def prefill(
    model: Any, sequence: Sequence, patches: ReadTokens | None, memory: Memory, most: int | None = None
) -> Tensor:
    """Read all tokens of `sequence` into `memory`.

    A chunk that runs out of GPU memory is read again in halves, as is what comes after it.

    Args:
        model: a `Gemma3ForConditionalGeneration`.
        sequence: the input.
        patches: its patches; None without.
        memory: empty, with room for it.
        most: longest chunk; None for that of the device.

    Returns:
        (vocabulary,) logits behind the last token.

    Raises:
        ModelError: memory ran out for the smallest chunk, too.
    """
    model.set_attn_implementation({"text_config": CHUNKED})
    images, logits = image_numbers(sequence.types), None
    pending = list(chunks(sequence.types, most or CHUNK[model.device.type]))[::-1]
    behind = sequence.soft[sequence.grids.cumsum() - 1]
    while pending:
        first, last = pending.pop()
        try:
            logits = _read(model, sequence, images, behind, patches, memory, first, last)
            memory.commit()
            continue
        except RuntimeError as error:
            if not ran_out(error):
                raise
            half = (last - first) // 2
            parts = len(list(chunks(sequence.types[first:last], half)))
            if last - first <= _SMALLEST or parts == 1 or not memory.discard():
                raise _too_long(sequence, memory, last - first) from None
        # out here the error is gone, and what its frames held with it
        torch.cuda.empty_cache()
        emit("prefill.halved", tokens=last - first)
        pending = [(first + a, first + b) for a, b in chunks(sequence.types[first:], half)][::-1]
    assert logits is not None
    return logits


def _too_long(sequence: Sequence, memory: Memory, tokens: int) -> ModelError:
    return ModelError(
        "memory",
        f"it ran out reading {tokens:,} of {len(sequence.ids):,} tokens at a time, beside the weights and "
        f"{memory.stored() / 2**30:.1f} GiB of keys and values",
        "use --plan windows, fewer --tokens-per-patch or --max-patches, or a larger machine",
    )


def _read(
    model: Any,
    sequence: Sequence,
    images: NDArray[np.int64],
    behind: NDArray[np.int64],
    patches: ReadTokens | None,
    memory: Memory,
    first: int,
    last: int,
) -> Tensor:
    """Tokens `first` to `last`; `behind` is the last soft token of each patch."""
    device = model.device
    given = None
    if patches is not None:
        start, stop = np.searchsorted(behind, [first, last])
        if stop > start:
            given = _projected(model, patches(int(start), int(stop)))
    inside = images[first:last]
    step = model(
        input_ids=torch.from_numpy(sequence.ids[first:last])[None].to(device),
        mm_encoder_outputs=given,
        past_key_values=memory,
        use_cache=True,
        logits_to_keep=1,
        images=torch.from_numpy(inside).to(device) if _shared(inside) else None,
    )
    logits: Tensor = step.logits[0, -1]
    return logits


def _shared(images: NDArray[np.int64]) -> bool:
    """Whether an image has more than one token."""
    return bool(((images[1:] == images[:-1]) & (images[1:] >= 0)).any())


def _projected(model: Any, rows: NDArray[np.float32]) -> Any:
    """Soft tokens as the model takes them instead of pixels."""
    projector = model.model.multi_modal_projector
    weight = projector.mm_input_projection_weight
    soft = projector.mm_soft_emb_norm(torch.from_numpy(rows).to(model.device, weight.dtype)) @ weight
    return {"image": BaseModelOutputWithPooling(pooler_output=soft[None])}
