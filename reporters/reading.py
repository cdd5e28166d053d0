"""Windows of a part, read by a writer one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from reporters.evidence import PatchPlace
from reporters.plan import PartPlan, Window
from reporters.sequence import ReadTokens
from reporters.writer import Draft, Writer
from wsi_pipeline.events import emit
from wsi_pipeline.settings import ReportSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore

Read = tuple[Draft, list[PatchPlace]]
"""What was written about a window, and where its patches lie."""
_GAP = 16
"""Patches that are read along with those on either side rather than in two reads."""


@dataclass
class Progress:
    """Tells how many of a part's sequences are read."""

    part: str
    total: int
    done: int = 0

    def tell(self, tokens: int) -> None:
        """The next one has so many tokens; 0 for no next one."""
        emit("write.window", part=self.part, done=self.done, total=self.total, tokens=tokens)
        self.done += 1


@dataclass(frozen=True)
class PartReader:
    """Reads any windows of one part.

    Attributes:
        plan: how sequences are laid out.
        instruction: the text behind the patches.
        writer: that reads and writes.
        places: by slide, of its patches.
        tokens: by slide, the store of its patches' tokens.
        settings: length and randomness of what is written.
        progress: is told of every window.
    """

    plan: PartPlan
    instruction: str
    writer: Writer
    places: Mapping[str, Sequence[PatchPlace]]
    tokens: Mapping[str, TokenStore]
    settings: ReportSettings
    progress: Progress

    def changed(self, plan: PartPlan | None = None, samples: int | None = None) -> PartReader:
        """By another plan, or with another number of samples."""
        settings = self.settings if samples is None else self.settings.model_copy(update={"samples": samples})
        return replace(self, plan=plan or self.plan, settings=settings)

    def read(self, windows: Sequence[Window]) -> list[Read]:
        """In order; samples are drawn behind each."""
        plan, settings = self.plan, self.settings
        grammar = self.writer.grammar.laid_out(plan.slide_markers, plan.coordinates)
        read: list[Read] = []
        for window in windows:
            self.progress.tell(window.tokens)
            where = [[self.places[share.slide][i] for i in share.patches] for share in window.slides]
            written = [[place.mm for place in slide] for slide in where] if plan.coordinates else None
            sequence = grammar.sequence(plan.grids(window), self.instruction, places=written)
            tokens = window_tokens(plan, window, self.tokens)
            draft = self.writer.write(sequence, tokens, settings.max_new_tokens, settings.samples or 0, settings.seed)
            read.append((draft, [place for slide in where for place in slide]))
        return read


def places_of(store: PatchStore) -> list[PatchPlace]:
    """Where the patches of a slide lie."""
    facts = store.facts
    mm = facts.mpp / 1000
    return [
        PatchPlace(facts.slide_id, i, int(x), int(y), facts.patch_level0, (x * mm, y * mm))
        for i, (x, y) in enumerate(store.coords)
    ]


def window_tokens(plan: PartPlan, window: Window, stores: Mapping[str, TokenStore]) -> ReadTokens:
    """Those of a window's patches, read from the slides' stores stretch by stretch."""
    grids = [t for slide in plan.grids(window) for t in slide]
    slides = [(share.slide, patch) for share in window.slides for patch in share.patches]
    places = [(slide, t, patch) for (slide, patch), t in zip(slides, grids, strict=True)]

    def read(first: int, last: int) -> NDArray[np.float32]:
        parts = []
        for (slide, per_patch), group in groupby(places[first:last], key=itemgetter(0, 1)):
            rows = _rows(stores[slide], np.array([patch for _, _, patch in group]), per_patch)
            parts.append(rows.reshape(-1, rows.shape[2]))
        return np.concatenate(parts)

    return read


def _rows(store: TokenStore, patches: NDArray[np.int64], per_patch: int) -> NDArray[np.float32]:
    """(n, T, D) of these patches, in their order: neighbours together, and nothing that lies between others."""
    wanted, place = np.unique(patches, return_inverse=True)
    stretches = np.split(wanted, np.flatnonzero(np.diff(wanted) > _GAP) + 1)
    rows = [store.read(int(s[0]), int(s[-1]) + 1, per_patch)[s - s[0]] for s in stretches]
    return np.concatenate(rows)[place]
