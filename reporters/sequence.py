"""The grammar of an input: slide markers, then patches in order. The only place that knows it.

Tokens per patch T, native N:

- T = N: every patch is `\\n\\n<boi> T×soft <eoi>\\n\\n`, what Gemma 3's own processor writes;
- 1 < T < N: `<boi> T×soft`; the marker keeps neighbours from merging into one bidirectional block;
- T = 1: the bare soft token, causal: a marker would cost more than it marks.

Slide markers open a slide and, where the profile says so, repeat after every few patches and at its end.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reporters.profiles import Profile


@dataclass(frozen=True)
class Sequence:
    """Token ids of one input.

    Attributes:
        ids: (L,) token ids.
        types: (L,) 1 on soft tokens that attend within their image, else 0.
        soft: (patches·T,) positions of soft tokens, patch by patch.
        chunk_ends: (position, slide, first patch, last patch + 1) of each marker that closes a chunk, by
            position of its last token; patches count through the whole sequence.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    soft: NDArray[np.int64]
    chunk_ends: tuple[tuple[int, int, int, int], ...]


class Grammar:
    """Writes sequences for one checkpoint.

    Args:
        tokenizer: the checkpoint's.
        profile: its profile.
        boi, soft, eoi: ids of begin-of-image, soft token, end-of-image from its configuration.
    """

    def __init__(self, tokenizer: Any, profile: Profile, boi: int, soft: int, eoi: int) -> None:
        self._tokenizer, self._profile = tokenizer, profile
        self._boi, self._soft, self._eoi = boi, soft, eoi
        self._break = self._encode("\n\n")
        self._opening = self._encode(profile.opening)
        self._markers: dict[int, list[int]] = {}

    def sequence(self, patches_per_slide: Items[int], tokens_per_patch: int, instruction: str) -> Sequence:
        """The input for slides with so many patches each, and the instruction after them."""
        ids = list(self._opening)
        soft: list[int] = []
        ends: list[tuple[int, int, int, int]] = []
        patch = 0
        every = self._profile.marker_every.get(tokens_per_patch)
        before, after = self._around(tokens_per_patch)
        bidirectional = int(tokens_per_patch > 1)
        for number, count in enumerate(patches_per_slide, 1):
            marker = self._marker(number)
            ids += marker
            first = patch
            for k in range(count):
                ids += before
                soft += range(len(ids), len(ids) + tokens_per_patch)
                ids += [self._soft] * tokens_per_patch + after
                patch += 1
                if every and ((k + 1) % every == 0 or k + 1 == count):
                    ids += marker
                    ends.append((len(ids) - 1, number, first, patch))
                    first = patch
        ids += self._encode(instruction) + self._encode(self._profile.closing)
        types = np.zeros(len(ids), np.int64)
        types[soft] = bidirectional
        return Sequence(np.array(ids), types, np.array(soft, np.int64), tuple(ends))

    def text_only(self, instruction: str) -> Sequence:
        """An input without images."""
        return self.sequence((), self._profile.native_tokens, instruction)

    def length(self, patches_per_slide: Items[int], tokens_per_patch: int, instruction: str) -> int:
        """Tokens of `sequence` with the same arguments, markers and line breaks included, without building it."""
        before, after = self._around(tokens_per_patch)
        every = self._profile.marker_every.get(tokens_per_patch)
        total = len(self._opening) + len(self._encode(instruction)) + len(self._encode(self._profile.closing))
        for number, count in enumerate(patches_per_slide, 1):
            repeats = -(-count // every) if every else 0
            total += len(self._marker(number)) * (1 + repeats)
            total += count * (len(before) + tokens_per_patch + len(after))
        return total

    def _around(self, tokens_per_patch: int) -> tuple[list[int], list[int]]:
        if tokens_per_patch == self._profile.native_tokens:
            return [*self._break, self._boi], [self._eoi, *self._break]
        return ([self._boi] if tokens_per_patch > 1 else []), []

    def _marker(self, number: int) -> list[int]:
        if number not in self._markers:
            self._markers[number] = self._encode(self._profile.slide_marker.format(n=number))
        return self._markers[number]

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []
