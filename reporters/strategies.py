"""How the patches of a part are shared out over sequences: each strategy gives tokens per patch, and windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import isqrt

import numpy as np

from reporters.plan import SlideShare, Strategy, Window
from reporters.profiles import Profile
from reporters.selection import Choose, Patches
from reporters.sequence import Grammar, uniform
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ReportSettings


@dataclass(frozen=True)
class Room:
    """What one sequence may hold."""

    profile: Profile
    grammar: Grammar
    instruction: str
    budget: int
    """Tokens beside the answer."""

    def length(self, shares: Patches, tokens: int) -> int:
        """Of a sequence with so many tokens per patch."""
        return self._length(tuple(map(len, shares.values())), tokens)

    @cached_property
    def _length(self) -> Callable[[tuple[int, ...], int], int]:
        """By patches of each slide; packing tries the same slides over and over."""
        return cache(lambda counts, tokens: self.grammar.length(uniform(counts, tokens), self.instruction))

    def at(self, tokens: int) -> Room:
        """The same for so many tokens per patch only."""
        return replace(self, profile=self.profile.model_copy(update={"trained_tokens": (tokens,)}))

    @property
    def grids(self) -> list[int]:
        """Trained T, smallest first; but for the smallest those only of which one patch fits."""
        smallest, *larger = sorted(self.profile.trained_tokens)
        return [smallest, *(t for t in larger if self.length({"": (0,)}, t) <= self.budget)]

    @property
    def finest(self) -> int:
        """The largest of these that can be averaged to the smallest, so that one store serves both."""
        return max(t for t in _averaging(self.profile) if t in self.grids)

    @property
    def fine_cost(self) -> int:
        """Tokens that reading one more patch fine takes at the most: it may bring another marker."""
        low, high = min(self.profile.trained_tokens), fine_tokens(self.profile)
        one, other = (self.grammar.length([[low, t]], self.instruction) for t in (high, low))
        return one - other + self.grammar.marker_tokens

    def most(self, tokens: int) -> int:
        """Patches of one slide that fit.

        Raises:
            ModelError: none, with the arithmetic.
        """
        one, two = (self.length({"": range(n)}, tokens) for n in (1, 2))
        if one > self.budget:
            raise _too_small(self.profile, one, self.budget)
        low, high = 1, 2 + (self.budget - one) // (two - one)  # repeated markers take more
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.length({"": range(middle)}, tokens) <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        return low


def fitting(chosen: Patches, room: Room) -> Strategy:
    """The profile's strategy; parts that one sequence cannot hold whole are searched by a checkpoint that answers in
    lines, and read in groups by another one that can merge."""
    profile = room.profile
    if profile.strategy != "joint" or holds(chosen, room, min(profile.trained_tokens)):
        return profile.strategy
    if profile.answer == "lines":
        return "search"
    return "joint" if profile.merge_prompt is None else "groups"


def holds(chosen: Patches, room: Room, tokens: int) -> bool:
    """Whether one sequence holds all patches at so many tokens each."""
    return not _too_many(chosen, room.profile) and room.length(chosen, tokens) <= room.budget


def joint(chosen: Patches, room: Room, seed: int, choose: Choose) -> tuple[int, tuple[Window, ...]]:
    """All patches in one sequence at the largest trained T that fits; `choose`'s at the smallest when none does."""
    profile = room.profile
    _check_slides("joint", chosen, profile)
    for tokens in sorted(profile.trained_tokens, reverse=True):
        if room.length(chosen, tokens) <= room.budget:
            return tokens, (_window(chosen, room.length(chosen, tokens)),)
    tokens = min(profile.trained_tokens)
    low, high = 0, sum(map(len, chosen.values()))
    while high - low > 1:
        middle = (low + high) // 2
        fits = room.length(choose(chosen, middle, seed), tokens) <= room.budget
        low, high = (middle, high) if fits else (low, middle)
    if low == 0:
        raise _too_small(profile, room.length({"": (0,)}, tokens), room.budget)
    some = choose(chosen, low, seed)
    return tokens, (_window(some, room.length(some, tokens)),)


def separate(chosen: Patches, room: Room) -> tuple[int, tuple[Window, ...]]:
    """Contiguous stretches of one slide each, as long as the checkpoint was trained for, evenly filled."""
    tokens = max(room.profile.trained_tokens)
    pieces = _stretches(chosen, room.most(tokens))
    return tokens, tuple(_window(piece, room.length(piece, tokens)) for piece in pieces)


def groups(chosen: Patches, room: Room) -> tuple[int, tuple[Window, ...]]:
    """As few sequences of several slides as hold every patch, about equally many slides each, at the largest T."""
    grids = room.grids
    most = room.profile.max_slides or len(chosen)
    fewest = len(_packed(chosen, room, grids[0], most))
    for tokens in grids[::-1]:
        for slides in range(-(-len(chosen) // fewest), most + 1):
            packed = _packed(chosen, room, tokens, slides)
            if len(packed) == fewest:
                return tokens, tuple(_window(group, room.length(group, tokens)) for group in packed)
    raise AssertionError("the smallest T packs into the fewest")


def close_look(chosen: Patches, room: Room, stands_out: Choose, settings: ReportSettings) -> tuple[Window, ...]:
    """What stands out, in groups of its own at the largest T."""
    most = min(settings.fine_patches, sum(map(len, chosen.values())))
    return closely(stands_out(chosen, most, settings.seed), room)


def closely(some: Patches, room: Room) -> tuple[Window, ...]:
    """Groups that read every patch at the largest T."""
    _, windows = groups(some, room.at(room.finest))
    return tuple(
        window.model_copy(
            update={"slides": tuple(share.model_copy(update={"fine": share.patches}) for share in window.slides)}
        )
        for window in windows
    )


def fine_tokens(profile: Profile) -> int:
    """T of the fine patches of a mixed plan: the largest that can be averaged to the smallest.

    Raises:
        ModelError: the checkpoint has no two such T.
    """
    finest = max(_averaging(profile))
    if finest == min(profile.trained_tokens):
        known = ", ".join(map(str, sorted(profile.trained_tokens)))
        raise ModelError(
            f"plan mixed, profile {profile.name}",
            f"needs two numbers of tokens per patch, one averaged from the other; it was trained with {known}",
            "use --plan auto",
        )
    return finest


def finest_of_search(profile: Profile, asked: int | None) -> int:
    """T at which a search's patches are encoded: what is asked for, or the largest that averages to the smallest."""
    return asked or max(_averaging(profile))


def _averaging(profile: Profile) -> list[int]:
    """The smallest trained T, and those that can be averaged to it."""
    low = min(profile.trained_tokens)
    return [t for t in profile.trained_tokens if isqrt(t) % isqrt(low) == 0]


def coarse(chosen: Patches, room: Room) -> tuple[int, tuple[Window, ...]]:
    """All patches in one sequence at the smallest T.

    Raises:
        ModelError: they do not fit, with the arithmetic.
    """
    _check_slides("mixed", chosen, room.profile)
    tokens = min(room.profile.trained_tokens)
    needed = room.length(chosen, tokens)
    if needed > room.budget:
        raise ModelError(
            f"plan mixed, profile {room.profile.name}",
            f"{sum(map(len, chosen.values())):,} patches take {needed:,} tokens at {tokens} per patch; {room.budget:,} "
            f"of the context of {room.profile.longest:,} are left beside the answer",
            "use --plan groups, fewer patches with --max-patches, or a longer sequence with --context-tokens",
        )
    return tokens, (_window(chosen, needed),)


def mixed(chosen: Patches, room: Room, zoom: Choose, settings: ReportSettings) -> tuple[int, tuple[Window, ...]]:
    """All patches in one sequence, and as many as fit of those that `zoom` picks at the largest T."""
    tokens, (first,) = coarse(chosen, room)
    fine = fine_tokens(room.profile)

    def window(count: int) -> Window:
        picked = zoom(chosen, count, settings.seed) if count else {}
        shares = tuple(share.model_copy(update={"fine": picked.get(share.slide, ())}) for share in first.slides)
        grids = [[fine if p in share.fine else tokens for p in share.patches] for share in shares]
        return Window(slides=shares, tokens=room.grammar.length(grids, room.instruction))

    low, high = 0, min(settings.fine_patches, sum(map(len, chosen.values())))
    best = window(high)
    if best.tokens > room.budget:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if window(middle).tokens <= room.budget else (low, middle)
        best = window(low)
    return tokens, (best,)


def _packed(chosen: Patches, room: Room, tokens: int, slides: int) -> list[Patches]:
    """Slides in order, a new group where the next one is too much; one too long for a group is divided."""
    packed: list[Patches] = []
    for piece in _stretches(chosen, room.most(tokens)):
        joined: Patches = {**packed[-1], **piece} if packed and not packed[-1].keys() & piece.keys() else piece
        if packed and joined is not piece and len(joined) <= slides and room.length(joined, tokens) <= room.budget:
            packed[-1] = joined
        else:
            packed.append(piece)
    return packed


def _stretches(chosen: Patches, most: int) -> list[Patches]:
    """Slides, those of more than `most` patches in even stretches."""
    return [
        {slide: tuple(int(i) for i in stretch)}
        for slide, patches in chosen.items()
        for stretch in np.array_split(np.array(patches), -(-len(patches) // most))
    ]


def _window(shares: Patches, tokens: int) -> Window:
    return Window(slides=tuple(SlideShare(slide=s, patches=tuple(p)) for s, p in shares.items()), tokens=tokens)


def _too_many(chosen: Patches, profile: Profile) -> bool:
    return profile.max_slides is not None and len(chosen) > profile.max_slides


def _check_slides(plan: Strategy, chosen: Patches, profile: Profile) -> None:
    if _too_many(chosen, profile):
        raise ModelError(
            f"plan {plan}, profile {profile.name}",
            f"{len(chosen)} slides in one part; the checkpoint was trained for at most {profile.max_slides}",
            "use --plan groups or windows, or divide the part in the manifest",
        )


def _too_small(profile: Profile, needed: int, budget: int) -> ModelError:
    return ModelError(
        f"profile {profile.name}",
        f"one patch takes {needed:,} tokens with its instruction; {max(0, budget):,} of the context of "
        f"{profile.longest:,} are left beside the answer",
        "shorten what the manifest says of the part, lower --max-new-tokens, raise --context-tokens, or use a "
        "checkpoint with a longer context",
    )
