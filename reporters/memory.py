"""What a model remembers of a long input: all of it in global layers, the last window in local ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from wsi_pipeline.models.checkpoint import BYTES

Mark = tuple[int, Tensor | None, Tensor | None]
"""Of a layer: how much it has seen, its keys and values. Nothing is ever written into what lies before a mark."""


class _Layer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped
    """Keys and values of one layer; what a forward pass adds counts from `commit` on, so that it can be tried again."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self._new = 0

    def commit(self) -> None:
        self.seen += self._new
        self._new = 0

    def discard(self) -> None:
        self._new = 0

    def mark(self) -> Mark:
        """What `rewind` comes back to; of a local layer it keeps a window alive."""
        return self.seen, self.keys, self.values

    def rewind(self, mark: Mark) -> None:
        """Forget what was committed since `mark`."""
        self.seen, self.keys, self.values = mark

    def get_seq_length(self) -> int:
        return self.seen

    def stored(self) -> int:
        """Bytes."""
        return sum(t.untyped_storage().nbytes() for t in (self.keys, self.values) if t is not None)


class WholeLayer(_Layer):
    """Everything, in room that is taken once."""

    is_sliding = False

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads, _, _ = key_states.shape
        self.keys = key_states.new_empty(batch, heads, self._room, key_states.shape[-1])
        self.values = value_states.new_empty(batch, heads, self._room, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        self._new = key_states.shape[-2]
        stop = self.seen + self._new
        self.keys[:, :, self.seen : stop] = key_states
        self.values[:, :, self.seen : stop] = value_states
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_max_length(self) -> int:
        return self._room


class WindowLayer(_Layer):
    """The last `window - 1` tokens: with the next one, what a token of a local layer sees."""

    is_sliding = True

    def __init__(self, window: int) -> None:
        super().__init__()
        self._window = window
        self._with_new: tuple[Tensor, Tensor] | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._new = key_states.shape[-2]
        assert self.keys is not None
        assert self.values is not None
        self._with_new = torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2)
        return self._with_new

    def commit(self) -> None:
        super().commit()
        if self._with_new is not None:
            # copied, so that the rest is given back
            self.keys, self.values = (t[:, :, -self._window + 1 :].clone() for t in self._with_new)
            self._with_new = None

    def discard(self) -> None:
        super().discard()
        self._with_new = None

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        kept = min(self.seen, self._window - 1)
        return kept + query_length, self.seen - kept

    def get_max_length(self) -> int:
        return self._window


class Memory(Cache):  # type: ignore[misc]
    """A cache for inputs of at most `room` tokens.

    Args:
        config: of the text model.
        room: tokens of the input and the answer.
    """

    def __init__(self, config: Any, room: int) -> None:
        super().__init__(
            layers=[
                WindowLayer(config.sliding_window) if kind == "sliding_attention" else WholeLayer(room)
                for kind in config.layer_types
            ]
        )

    def commit(self) -> None:
        """Keep what the last forward pass added; without this, the next one replaces it."""
        for layer in self.layers:
            layer.commit()

    def discard(self) -> bool:
        """Forget what the last forward pass added; whether all of that was forgotten, no layer having kept it."""
        whole = len({layer.seen for layer in self.layers}) == 1
        for layer in self.layers:
            layer.discard()
        return whole

    def mark(self) -> list[Mark]:
        """Where `rewind` comes back to."""
        return [layer.mark() for layer in self.layers]

    def rewind(self, mark: list[Mark]) -> None:
        """Forget everything that came after `mark`, so that another answer can follow the same input."""
        for layer, before in zip(self.layers, mark, strict=True):
            layer.rewind(before)

    def stored(self) -> int:
        """Bytes of keys and values."""
        return sum(layer.stored() for layer in self.layers)


def memory_bytes(config: Any, tokens: int, dtype: str) -> int:
    """What a `Memory` of so many tokens takes: all of them in global layers, a window in others."""
    whole = sum(kind == "full_attention" for kind in config.layer_types)
    local = len(config.layer_types) - whole
    per_token = 2 * config.num_key_value_heads * config.head_dim * BYTES[dtype]
    return int(per_token * (whole * tokens + local * min(tokens, config.sliding_window - 1)))
