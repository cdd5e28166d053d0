"""The grammar of an input: slide markers, then patches in order. The only place that knows it.

Tokens per patch T, native N:

- T = N: every patch is `\\n\\n<boi> T×soft <eoi>\\n\\n`, what Gemma 3's own processor writes;
- 1 < T < N: `<boi> T×soft`; the marker keeps neighbours from merging into one bidirectional block;
- T = 1: the bare soft token, causal: a marker would cost more than it marks.

Slide markers open a slide and, where the profile says so, repeat after every few patches and at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reporters.profiles import Profile

_BREAK = "\n\n"


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

    def but_last(self) -> Sequence:
        """Without its last token."""
        return replace(self, ids=self.ids[:-1], types=self.types[:-1])


@dataclass(frozen=True)
class PatchTokens:
    """Tokens of an input's patches, before the projector, read when they are needed.

    Attributes:
        count: patches.
        per_patch: T.
        read: (last - first, T, D) of patches `first` to `last`.
    """

    count: int
    per_patch: int
    read: Callable[[int, int], NDArray[np.float32]]

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> PatchTokens:
        """Those in (n, T, D) `rows`."""
        return cls(len(rows), rows.shape[1], lambda first, last: rows[first:last])


@dataclass(frozen=True)
class _Run:
    """Text between two patches, and the markers in it that close a chunk: (end in characters, slide, first, last)."""

    text: str
    ends: tuple[tuple[int, int, int, int], ...]


class Grammar:
    """Writes sequences for one checkpoint.

    Text between two patches is tokenised in one piece, as a processor does that sees the whole prompt: the line
    breaks behind one image and before the next are one token of Gemma's, not two.

    Args:
        tokenizer: the checkpoint's.
        profile: its profile.
        boi, soft, eoi: ids of begin-of-image, soft token, end-of-image from its configuration.
    """

    def __init__(self, tokenizer: Any, profile: Profile, boi: int, soft: int, eoi: int) -> None:
        self.tokenizer, self._profile = tokenizer, profile
        self._boi, self._soft, self._eoi = boi, soft, eoi
        self._encoded: dict[str, list[int]] = {}

    def sequence(self, patches_per_slide: Items[int], tokens_per_patch: int, instruction: str) -> Sequence:
        """The input for slides with so many patches each, and the instruction after them."""
        ids: list[int] = []
        soft: list[int] = []
        ends: list[tuple[int, int, int, int]] = []
        before, after = self._around(tokens_per_patch)
        left = sum(patches_per_slide)
        for run in self._runs(patches_per_slide, tokens_per_patch, instruction):
            for stop, *chunk in run.ends:
                slide, first, last = chunk
                ends.append((len(ids) + len(self._encode(run.text[:stop])) - 1, slide, first, last))
            ids += self._encode(run.text)
            if left:
                ids += before
                soft += range(len(ids), len(ids) + tokens_per_patch)
                ids += [self._soft] * tokens_per_patch + after
                left -= 1
        types = np.zeros(len(ids), np.int64)
        types[soft] = int(tokens_per_patch > 1)
        return Sequence(np.array(ids), types, np.array(soft, np.int64), tuple(ends))

    def text_only(self, instruction: str) -> Sequence:
        """An input without images."""
        return self.sequence((), self._profile.native_tokens, instruction)

    def length(self, patches_per_slide: Items[int], tokens_per_patch: int, instruction: str) -> int:
        """Tokens of `sequence` with the same arguments, every marker and line break charged, without building it."""
        before, after = self._around(tokens_per_patch)
        text = sum(len(self._encode(run.text)) for run in self._runs(patches_per_slide, tokens_per_patch, instruction))
        return text + sum(patches_per_slide) * (len(before) + tokens_per_patch + len(after))

    def _runs(self, patches_per_slide: Items[int], tokens_per_patch: int, instruction: str) -> Iterator[_Run]:
        """One stretch of text before every patch, and one behind the last."""
        every = self._profile.marker_every.get(tokens_per_patch)
        line_break = _BREAK if tokens_per_patch == self._profile.native_tokens else ""
        text, patch = self._profile.opening, 0
        ends: list[tuple[int, int, int, int]] = []
        for number, count in enumerate(patches_per_slide, 1):
            marker = self._profile.slide_marker.format(n=number)
            text += marker
            first = patch
            for k in range(count):
                yield _Run(text + line_break, tuple(ends))
                text, ends, patch = line_break, [], patch + 1
                if every and ((k + 1) % every == 0 or k + 1 == count):
                    text += marker
                    ends.append((len(text), number, first, patch))
                    first = patch
        yield _Run(text + instruction + self._profile.closing, tuple(ends))

    def _around(self, tokens_per_patch: int) -> tuple[list[int], list[int]]:
        """Ids directly before and behind the soft tokens of a patch."""
        if tokens_per_patch == self._profile.native_tokens:
            return [self._boi], [self._eoi]
        return ([self._boi] if tokens_per_patch > 1 else []), []

    def _encode(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text] = list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []
        return self._encoded[text]
