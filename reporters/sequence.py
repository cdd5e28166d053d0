"""The grammar of an input: slide markers, then patches in order. The only place that knows it.

Tokens per patch T, native N:

- T = N: every patch is `\\n\\n<boi> T×soft <eoi>\\n\\n`, what Gemma 3's own processor writes;
- 1 < T < N: `<boi> T×soft`; the marker keeps neighbours from merging into one bidirectional block;
- T = 1: the bare soft token, causal: a marker would cost more than it marks.

Each patch has its own T; one sequence may mix them. Slide markers open a slide and, where the profile says so, repeat
after every few patches and at its end; where Ts are mixed, each patch counts for its own share of the few. Markers may
be left out, and the place of a patch be written before it, where a plan says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reporters.profiles import Profile

_BREAK = "\n\n"
_PLACE = "({:05.1f}, {:05.1f}) "
"""mm right and down. Always as long, so that lengths are known without the places; a slide has less than 1,000 mm."""


@dataclass(frozen=True)
class Sequence:
    """Token ids of one input.

    Attributes:
        ids: (L,) token ids.
        types: (L,) 1 on soft tokens that attend within their image, else 0.
        soft: positions of soft tokens, patch by patch.
        grids: (patches,) how many of them each patch has, its T.
        chunk_ends: (position, slide, first patch, last patch + 1) of each marker that closes a chunk, by
            position of its last token; patches count through the whole sequence.
        numbers: of the slides it shows.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    soft: NDArray[np.int64]
    grids: NDArray[np.int64]
    chunk_ends: tuple[tuple[int, int, int, int], ...]
    numbers: tuple[int, ...] = ()

    def but_last(self) -> Sequence:
        """Without its last token."""
        return replace(self, ids=self.ids[:-1], types=self.types[:-1])


ReadTokens = Callable[[int, int], NDArray[np.float32]]
"""(tokens, D) of an input's patches `first` to `last`, before the projector, patch by patch; asked for when needed."""


def in_memory(rows: NDArray[np.float32]) -> ReadTokens:
    """Those in (n, T, D) `rows`."""
    return lambda first, last: rows[first:last].reshape(-1, rows.shape[2])


Grids = Items[Items[int]]
"""Per slide the T of each patch."""


Places = Items[Items[tuple[float, float]]]
"""Per slide where each patch lies: mm right and down of the slide's corner."""


def uniform(patches_per_slide: Items[int], tokens_per_patch: int) -> Grids:
    """The same T for all patches of slides with so many each."""
    return [[tokens_per_patch] * count for count in patches_per_slide]


@dataclass(frozen=True)
class _Run:
    """Text before a patch, and the markers in it that close a chunk: (end in characters, slide, first, last)."""

    text: str
    ends: tuple[tuple[int, int, int, int], ...]
    tokens: int
    """T of the patch behind it; 0 behind the last."""


class Grammar:
    """Writes sequences for one checkpoint.

    Text between two patches is tokenised in one piece, as a processor does that sees the whole prompt: the line
    breaks behind one image and before the next are one token of Gemma's, not two.

    Args:
        tokenizer: the checkpoint's.
        profile: its profile.
        boi, soft, eoi: ids of begin-of-image, soft token, end-of-image from its configuration.
        coordinates: whether the place of each patch is written before it.
    """

    def __init__(
        self, tokenizer: Any, profile: Profile, boi: int, soft: int, eoi: int, coordinates: bool = False
    ) -> None:
        self.tokenizer, self._profile, self._coordinates = tokenizer, profile, coordinates
        self._boi, self._soft, self._eoi = boi, soft, eoi
        self._chunk = lcm(*profile.marker_every.values())
        self._share = {tokens: self._chunk // every for tokens, every in profile.marker_every.items()}
        self._encoded: dict[str, list[int]] = {}

    def laid_out(self, slide_markers: bool, coordinates: bool) -> Grammar:
        """The same with or without the profile's slide markers, and the places of patches."""
        without = {"slide_marker": "", "marker_every": {}}
        profile = self._profile if slide_markers else self._profile.model_copy(update=without)
        return Grammar(self.tokenizer, profile, self._boi, self._soft, self._eoi, coordinates)

    def sequence(
        self, slides: Grids, instruction: str, first_number: int = 1, places: Places | None = None
    ) -> Sequence:
        """The input for slides with patches of so many tokens each, and the instruction after them.

        Args:
            slides: per slide the T of its patches.
            instruction: text behind them.
            first_number: of the first slide; the others count on.
            places: of the patches, where they are to be written.
        """
        ids: list[int] = []
        soft: list[int] = []
        ends: list[tuple[int, int, int, int]] = []
        for run in self._runs(slides, instruction, first_number, places):
            for stop, *chunk in run.ends:
                slide, first, last = chunk
                ends.append((len(ids) + len(self._encode(run.text[:stop])) - 1, slide, first, last))
            ids += self._encode(run.text)
            if run.tokens:
                before, after = self._around(run.tokens)
                ids += before
                soft += range(len(ids), len(ids) + run.tokens)
                ids += [self._soft] * run.tokens + after
        grids = np.array([tokens for slide in slides for tokens in slide], np.int64)
        types = np.zeros(len(ids), np.int64)
        types[soft] = np.repeat(grids > 1, grids)
        numbers = tuple(range(first_number, first_number + len(slides)))
        return Sequence(np.array(ids), types, np.array(soft, np.int64), grids, tuple(ends), numbers)

    def text_only(self, instruction: str) -> Sequence:
        """An input without images."""
        return self.sequence((), instruction)

    def length(self, slides: Grids, instruction: str) -> int:
        """Tokens of `sequence` with the same arguments, every marker and line break charged, without building it."""
        around = {tokens: sum(map(len, self._around(tokens))) for tokens in {t for slide in slides for t in slide}}
        text = sum(len(self._encode(run.text)) for run in self._runs(slides, instruction))
        return text + sum(tokens + around[tokens] for slide in slides for tokens in slide)

    @property
    def marker_tokens(self) -> int:
        """What a slide's marker takes, that of a slide with two figures."""
        return len(self._encode(self._profile.slide_marker.format(n=10)))

    def _runs(
        self, slides: Grids, instruction: str, first_number: int = 1, places: Places | None = None
    ) -> Iterator[_Run]:
        """One stretch of text before every patch, and one behind the last."""
        text, patch = self._profile.opening, 0
        ends: list[tuple[int, int, int, int]] = []
        for place, grids in enumerate(slides):
            number = first_number + place
            marker = self._profile.slide_marker.format(n=number)
            text += marker
            first, filled = patch, 0
            for k, tokens in enumerate(grids, 1):
                line_break = _BREAK if tokens == self._profile.native_tokens else ""
                if self._coordinates:
                    text += _PLACE.format(*(places[place][k - 1] if places else (0, 0)))
                yield _Run(text + line_break, tuple(ends), tokens)
                text, ends, patch = line_break, [], patch + 1
                filled += self._share.get(tokens, 0)
                if filled and (filled >= self._chunk or k == len(grids)):
                    text += marker
                    ends.append((len(text), number, first, patch))
                    first, filled = patch, 0
        yield _Run(text + instruction + self._profile.closing, tuple(ends), 0)

    def _around(self, tokens_per_patch: int) -> tuple[list[int], list[int]]:
        """Ids directly before and behind the soft tokens of a patch."""
        if tokens_per_patch == self._profile.native_tokens:
            return [self._boi], [self._eoi]
        return ([self._boi] if tokens_per_patch > 1 else []), []

    def _encode(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text] = list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []
        return self._encoded[text]
