"""What of an answer's form is known before it is written: a line for each slide, in order, and only then the rest.

A small writer loses count: of 129 phantom parts of six to twelve slides it left the last line out of three, though
nothing of what it had seen was wrong. How many slides there are is no question to ask a model.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Items
from typing import Any

import torch
from torch import Tensor


class Outline:
    """Of one answer while it is written.

    Args:
        tokenizer: the checkpoint's.
        ends: ids of the tokens that end an answer.
        numbers: of the slides that get a line each, in this order; none where the form is free.
    """

    def __init__(self, tokenizer: Any, ends: Collection[int], numbers: Items[int]) -> None:
        self._tokenizer, self._ends = tokenizer, sorted(ends)
        self._heads: list[list[int]] = [tokenizer.encode(f"Slide {n}:", add_special_tokens=False) for n in numbers]
        self._head = self._heads[0][:1] if self._heads else []
        self._given: list[int] = []
        self._line_begins = True

    def ruled(self, likely: Tensor) -> Tensor:
        """(V,) log-probabilities of the next token, minus infinity for what the form does not allow."""
        if self._line_begins and self._heads:
            self._given = self._heads.pop(0)
        barred = self._ends if self._heads else self._head if self._line_begins else []
        if self._given:
            only = torch.full_like(likely, -torch.inf)
            only[self._given[0]] = 0.0
            return only
        if not barred:
            return likely
        allowed = likely.clone()
        allowed[barred] = -torch.inf
        return allowed

    def written(self, token: int) -> None:
        """The token that was chosen."""
        self._given = self._given[1:]
        if self._head:
            self._line_begins = self._tokenizer.decode([token]).endswith("\n")
