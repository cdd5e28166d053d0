"""Attention of a chunk and of a word, against one product under one mask."""

import pytest
import torch

from reporters import attention
from reporters.attention import chunked_attention, looking_attention

DEVICES = [
    pytest.param("cpu", torch.float32, 1e-5, id="cpu"),
    *(
        pytest.param("cuda", dtype, close, id=f"gpu-{dtype}", marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="needs a GPU"))
        for dtype, close in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2))
    ),
]  # fmt: skip
HEADS, SHARED = 4, 2


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_PAST", 64)
    monkeypatch.setattr(attention, "_STRETCH", 48)


def drawn(
    queries: int, keys: int, width: int, device: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys and values lie in a larger room, as in a `WholeLayer`."""
    random = torch.Generator().manual_seed(queries + keys)
    shapes = (HEADS, queries, width), (SHARED, keys + 5, width), (SHARED, keys + 5, width)
    query, key, value = (torch.randn(1, *shape, generator=random).to(device, dtype) for shape in shapes)
    return query, key[:, :, :keys], value[:, :, :keys]


def dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, q, H, d), and weights (B, H, q, L), in float32 on the CPU."""
    q, k, v = (t.float().cpu() for t in (query, key, value))
    k, v = (t.repeat_interleave(HEADS // SHARED, 1) for t in (k, v))
    weights = ((q @ k.mT) * q.shape[3] ** -0.5).masked_fill(~visible, -torch.inf).softmax(-1)
    return (weights @ v).transpose(1, 2), weights


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("width", [64, 256])
@pytest.mark.parametrize("chunk", [1, 7, 33])
@pytest.mark.parametrize("past", [0, 19, 64, 200])
@pytest.mark.parametrize(("device", "dtype", "close"), DEVICES)
def test_a_chunk_sees_what_it_may(
    device: str, dtype: torch.dtype, close: float, past: int, chunk: int, width: int, window: int | None, images: bool
) -> None:
    kept = min(past, window - 1) if window else past
    query, key, value = drawn(chunk, kept + chunk, width, device, dtype)
    at = torch.arange(kept, kept + chunk)[:, None]
    visible = torch.arange(kept + chunk)[None] <= at
    if window:
        visible &= torch.arange(kept + chunk)[None] > at - window
    number = torch.arange(chunk) // 3 - (torch.arange(chunk) % 7 == 3) * chunk
    if images:
        visible[:, kept:] |= (number[:, None] == number) & (number >= 0)
    given = number.to(device) if images else None
    found, _ = chunked_attention(None, query, key, value, None, width**-0.5, sliding_window=window, images=given)
    assert torch.allclose(found.float().cpu(), dense(query, key, value, visible)[0], atol=close)


@pytest.mark.parametrize("keys", [1, 47, 48, 97, 500])
@pytest.mark.parametrize(("device", "dtype", "close"), DEVICES)
def test_a_word_sees_all_and_tells_how_much(device: str, dtype: torch.dtype, close: float, keys: int) -> None:
    query, key, value = drawn(1, keys, 64, device, dtype)
    seen, weights = looking_attention(None, query, key, value, None, 64**-0.5)
    wanted, wanted_weights = dense(query, key, value, torch.ones(1, keys, dtype=torch.bool))
    assert torch.allclose(seen.float().cpu(), wanted, atol=close)
    assert torch.allclose(weights.float().cpu(), wanted_weights, atol=close)
