"""Patches tied to a sentence by the attention its words paid."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from reporters.parse import Span
from reporters.schema import Evidence
from reporters.writer import Draft


@dataclass(frozen=True)
class PatchPlace:
    """Where a patch of a sequence lies: level-0 pixels of its slide, and mm right and down."""

    slide: str
    patch: int
    x: int
    y: int
    edge: float
    mm: tuple[float, float]


def attention_shares(draft: Draft, span: Span) -> NDArray[np.float32] | None:
    """(patches,) shares of the attention that the words of `span` paid to patches; None where it is not known."""
    if draft.attention is None:
        return None
    share: NDArray[np.float32] = draft.attention[draft.words(span.start, span.stop)].sum(0)
    return share / share.sum() if share.sum() > 0 else None


def attended(draft: Draft, span: Span, places: Items[PatchPlace], most: int) -> tuple[Evidence, ...]:
    """The `most` patches that the words of `span` attended to, strongest first; weights are `attention_shares`."""
    share = attention_shares(draft, span)
    if share is None or not most:
        return ()
    order = np.argsort(-share, kind="stable")[:most]
    return tuple(_evidence(places[int(i)], float(share[i])) for i in order)


def strongest(pieces: Items[Evidence], most: int) -> tuple[Evidence, ...]:
    """The strongest of several, each patch once: what a citing sentence inherits."""
    best: dict[tuple[str, int], Evidence] = {}
    for piece in sorted(pieces, key=lambda e: -e.weight):
        best.setdefault((piece.slide, piece.patch), piece)
    return tuple(best.values())[:most]


def in_turn(several: Items[Items[Evidence]], most: int) -> tuple[Evidence, ...]:
    """The strongest of each, then the second of each, and so on, each patch once: shares of different slides or windows
    are shares of different wholes, and are not held against each other."""
    taken: dict[tuple[str, int], Evidence] = {}
    for rank in zip_longest(*(strongest(pieces, len(pieces)) for pieces in several)):
        for piece in filter(None, rank):
            taken.setdefault((piece.slide, piece.patch), piece)
    return tuple(taken.values())[:most]


def _evidence(place: PatchPlace, weight: float) -> Evidence:
    return Evidence(
        slide=place.slide, patch=place.patch, x=place.x, y=place.y, edge=place.edge, weight=round(weight, 4)
    )
