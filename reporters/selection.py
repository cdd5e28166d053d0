"""Choose some of many patches: at random, those that differ most from each other, or those of the largest weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Patches = Mapping[str, Sequence[int]]
"""By slide, in the order they are read in."""
Choose = Callable[[Patches, int, int], dict[str, tuple[int, ...]]]
"""So many of the patches, by seed; slides that keep none are left out."""


def at_random(patches: Patches, budget: int, seed: int) -> dict[str, tuple[int, ...]]:
    """A seeded sample of `budget` patches, shared out over slides by their size, in their order."""
    rng = np.random.default_rng(seed)
    picked = {
        slide: tuple(patches[slide][i] for i in np.sort(rng.choice(len(patches[slide]), quota, replace=False)))
        for slide, quota in quotas(patches, budget).items()
    }
    return {slide: p for slide, p in picked.items() if p}


def shuffled(patches: Patches, seed: int) -> dict[str, tuple[int, ...]]:
    """The same patches, those of each slide in an order of its own."""
    rng = np.random.default_rng([seed, 3])
    return {slide: tuple(int(i) for i in rng.permutation(np.array(own))) for slide, own in patches.items()}


def farthest(features: Mapping[str, NDArray[np.float32]]) -> Choose:
    """As many of each slide as `at_random` would take, far apart in `features`, (N, d) by slide."""

    def choose(patches: Patches, budget: int, seed: int) -> dict[str, tuple[int, ...]]:
        rng = np.random.default_rng(seed)
        picked = {}
        for slide, quota in quotas(patches, budget).items():
            if quota:
                own = np.array(patches[slide])
                rows = farthest_points(features[slide][own], quota, int(rng.integers(len(own))))
                picked[slide] = tuple(int(i) for i in own[np.sort(rows)])
        return picked

    return choose


def standing_out(features: Mapping[str, NDArray[np.float32]]) -> Choose:
    """Those far apart in `features`, (N, d) by slide, whichever slides they are on, and those before and behind each.

    What few patches show is among the first that are chosen, however many others there are; what is beside it helps to
    tell what it is. They are up to three times as many as asked for.
    """

    def choose(patches: Patches, budget: int, seed: int) -> dict[str, tuple[int, ...]]:
        # whatever order they are read in, neighbours are those of the slide
        every = {slide: np.sort(np.array(own)) for slide, own in patches.items()}
        slides = np.repeat(np.arange(len(patches)), [len(own) for own in patches.values()])
        rows = np.concatenate([features[slide][own] for slide, own in every.items()])
        far = farthest_points(rows, budget, int(np.random.default_rng(seed).integers(len(rows))))
        kept = np.zeros(len(rows), bool)
        for step in (-1, 0, 1):
            near = np.clip(far + step, 0, len(rows) - 1)
            kept[near[slides[near] == slides[far]]] = True
        picked = {slide: set(own[kept[slides == number]]) for number, (slide, own) in enumerate(every.items())}
        return {slide: tuple(i for i in own if i in picked[slide]) for slide, own in patches.items() if picked[slide]}

    return choose


def strongest_of(weights: Mapping[str, NDArray[np.float32]]) -> Choose:
    """Those of the largest weight, whichever slide they are on; `weights` by slide, one for each of its patches."""

    def choose(patches: Patches, budget: int, seed: int) -> dict[str, tuple[int, ...]]:
        places = [(slide, patch) for slide, own in patches.items() for patch in own]
        order = np.argsort(-np.concatenate([weights[slide] for slide in patches]), kind="stable")[:budget]
        picked: dict[str, tuple[int, ...]] = {}
        for place in np.sort(order):
            slide, patch = places[place]
            picked[slide] = (*picked.get(slide, ()), patch)
        return picked

    return choose


def quotas(patches: Patches, budget: int) -> dict[str, int]:
    """`budget` patches, at most all, shared out over slides by their size; the largest remainders get one more."""
    total = sum(map(len, patches.values()))
    exact = {slide: len(p) * budget / total for slide, p in patches.items()}
    quota = {slide: int(share) for slide, share in exact.items()}
    for slide in sorted(exact, key=lambda s: quota[s] - exact[s])[: budget - sum(quota.values())]:
        quota[slide] += 1
    return quota


def farthest_points(features: NDArray[np.float32], count: int, first: int = 0) -> NDArray[np.intp]:
    """Indices of `count` rows that lie far apart: each next one is the farthest from all chosen so far.

    Gonzalez 1985, a 2-approximation of the k-centre problem.

    Args:
        features: (n, d); distances are Euclidean.
        count: at most n.
        first: the row to start from.
    """
    chosen = [first]
    nearest = np.linalg.norm(features - features[first], axis=1)
    while len(chosen) < min(count, len(features)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return np.array(chosen, np.intp)
