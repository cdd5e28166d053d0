"""The plan: which patches, at how many tokens, in which windows. Data, stored with the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from reporters.profiles import Profile
from reporters.selection import Choose, Patches, at_random
from reporters.sequence import Grammar
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ReportSettings

Strategy = Literal["windows", "joint", "groups"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SlideShare(_Data):
    """Patches of one slide in one window, in spatial order."""

    slide: str
    patches: tuple[int, ...]


class Window(_Data):
    """One sequence: slides in order; a slide's number in it is its place, from 1."""

    slides: tuple[SlideShare, ...]
    tokens: int
    """Input length, markers and instruction included."""


class PartPlan(_Data):
    """How one part is read."""

    strategy: Strategy
    tokens_per_patch: int
    windows: tuple[Window, ...]
    patches_found: int
    patches_read: int
    patches_left_out: int = 0
    """For their quality, as `--leave-out` asked."""
    deviations: tuple[str, ...] = ()
    """Where the plan leaves what the checkpoint was trained on."""

    @property
    def tokens(self) -> int:
        """Input tokens over all windows."""
        return sum(window.tokens for window in self.windows)


def make_plan(
    patches: Mapping[str, int],
    profile: Profile,
    grammar: Grammar,
    instruction: str,
    settings: ReportSettings,
    patch_size: int,
    mpp: float,
    left_out: Mapping[str, Collection[int]] = MappingProxyType({}),
    choose: Choose = at_random,
) -> PartPlan:
    """Plan one part.

    Args:
        patches: number of patches of each slide, in report order.
        profile: of the checkpoint that writes.
        grammar: its token arithmetic.
        instruction: the text after the images, which takes its share of the context.
        settings: plan, budget and seed.
        patch_size: edge of the stored patches in pixels.
        mpp: µm per pixel of the stored patches.
        left_out: per slide the patches that are not to be read; at least one patch of the part stays.
        choose: which patches, where `max_patches` is less than all.

    Raises:
        ModelError: one patch or the number of slides is more than the checkpoint takes, with the arithmetic.
    """
    found = sum(patches.values())
    out = sum(map(len, left_out.values()))
    kept = {slide: tuple(i for i in range(n) if i not in left_out.get(slide, ())) for slide, n in patches.items()}
    chosen = {slide: indices for slide, indices in kept.items() if indices}
    if settings.max_patches is not None and settings.max_patches < found - out:
        chosen = choose(chosen, settings.max_patches, settings.seed)
    room = _Room(profile, grammar, instruction, profile.context - settings.max_new_tokens)
    strategy = _fitting(chosen, room) if settings.plan == "auto" else settings.plan
    if strategy == "joint":
        tokens, windows = _joint(chosen, room, settings.seed)
    elif strategy == "groups":
        tokens, windows = _groups(chosen, room)
    else:
        tokens, windows = _windows(chosen, room)
    return PartPlan(
        strategy=strategy,
        tokens_per_patch=tokens,
        windows=windows,
        patches_found=found,
        patches_read=sum(len(share.patches) for window in windows for share in window.slides),
        patches_left_out=out,
        deviations=_deviations(profile, strategy, patch_size, mpp),
    )


@dataclass(frozen=True)
class _Room:
    """What one sequence may hold."""

    profile: Profile
    grammar: Grammar
    instruction: str
    budget: int
    """Tokens beside the answer."""

    def length(self, shares: Patches, tokens: int) -> int:
        """Of a sequence with so many tokens per patch."""
        return self.grammar.length([len(p) for p in shares.values()], tokens, self.instruction)

    def most(self, tokens: int) -> int:
        """Patches of one slide that fit.

        Raises:
            ModelError: none, with the arithmetic.
        """
        one, two = (self.grammar.length([n], tokens, self.instruction) for n in (1, 2))
        if one > self.budget:
            raise _too_small(self.profile, one, self.budget)
        low, high = 1, 2 + (self.budget - one) // (two - one)  # repeated markers take more
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.grammar.length([middle], tokens, self.instruction) <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        return low


def _fitting(chosen: Patches, room: _Room) -> Strategy:
    """The profile's strategy; for parts that one sequence cannot hold whole, groups where the checkpoint can merge."""
    profile = room.profile
    if profile.strategy != "joint" or profile.merge_prompt is None:
        return profile.strategy
    many = profile.max_slides is not None and len(chosen) > profile.max_slides
    long = room.length(chosen, min(profile.trained_tokens)) > room.budget
    return "groups" if many or long else "joint"


def _joint(chosen: Patches, room: _Room, seed: int) -> tuple[int, tuple[Window, ...]]:
    """All patches in one sequence at the largest trained T that fits; a sample at the smallest when none does."""
    profile = room.profile
    if profile.max_slides is not None and len(chosen) > profile.max_slides:
        raise ModelError(
            f"plan joint, profile {profile.name}",
            f"{len(chosen)} slides in one part; the checkpoint was trained for at most {profile.max_slides}",
            "use --plan groups or windows, or divide the part in the manifest",
        )
    for tokens in sorted(profile.trained_tokens, reverse=True):
        if room.length(chosen, tokens) <= room.budget:
            return tokens, (_window(chosen, room.length(chosen, tokens)),)
    tokens = min(profile.trained_tokens)
    low, high = 0, sum(map(len, chosen.values()))
    while high - low > 1:
        middle = (low + high) // 2
        fits = room.length(at_random(chosen, middle, seed), tokens) <= room.budget
        low, high = (middle, high) if fits else (low, middle)
    if low == 0:
        raise _too_small(profile, room.length({"": (0,)}, tokens), room.budget)
    some = at_random(chosen, low, seed)
    return tokens, (_window(some, room.length(some, tokens)),)


def _windows(chosen: Patches, room: _Room) -> tuple[int, tuple[Window, ...]]:
    """Contiguous stretches of one slide each, as long as the checkpoint was trained for, evenly filled."""
    tokens = max(room.profile.trained_tokens)
    pieces = _stretches(chosen, room.most(tokens))
    return tokens, tuple(_window(piece, room.length(piece, tokens)) for piece in pieces)


def _groups(chosen: Patches, room: _Room) -> tuple[int, tuple[Window, ...]]:
    """As few sequences of several slides as hold every patch, about equally many slides each, at the largest T."""
    smallest = min(room.profile.trained_tokens)
    grids = [t for t in room.profile.trained_tokens if t == smallest or room.length({"": (0,)}, t) <= room.budget]
    most = room.profile.max_slides or len(chosen)
    fewest = len(_packed(chosen, room, smallest, most))
    for tokens in sorted(grids, reverse=True):
        for slides in range(-(-len(chosen) // fewest), most + 1):
            groups = _packed(chosen, room, tokens, slides)
            if len(groups) == fewest:
                return tokens, tuple(_window(group, room.length(group, tokens)) for group in groups)
    raise AssertionError("the smallest T packs into the fewest")


def _packed(chosen: Patches, room: _Room, tokens: int, slides: int) -> list[Patches]:
    """Slides in order, a new group where the next one is too much; one too long for a group is divided."""
    groups: list[Patches] = []
    for piece in _stretches(chosen, room.most(tokens)):
        joined: Patches = {**groups[-1], **piece} if groups and not groups[-1].keys() & piece.keys() else piece
        if groups and joined is not piece and len(joined) <= slides and room.length(joined, tokens) <= room.budget:
            groups[-1] = joined
        else:
            groups.append(piece)
    return groups


def _stretches(chosen: Patches, most: int) -> list[Patches]:
    """Slides, those of more than `most` patches in even stretches."""
    return [
        {slide: tuple(int(i) for i in stretch)}
        for slide, patches in chosen.items()
        for stretch in np.array_split(np.array(patches), -(-len(patches) // most))
    ]


def _window(shares: Patches, tokens: int) -> Window:
    return Window(slides=tuple(SlideShare(slide=s, patches=p) for s, p in shares.items()), tokens=tokens)


def _too_small(profile: Profile, needed: int, budget: int) -> ModelError:
    return ModelError(
        f"profile {profile.name}",
        f"one patch takes {needed} tokens with its instruction; {budget} of the context of "
        f"{profile.context} are left beside the answer",
        "lower --max-new-tokens or use a checkpoint with a longer context",
    )


def _deviations(profile: Profile, strategy: Strategy, patch_size: int, mpp: float) -> tuple[str, ...]:
    found = []
    if patch_size != profile.patch_size:
        found.append(f"patches of {patch_size} px; {profile.name} was trained on {profile.patch_size} px")
    if not any(abs(mpp / known - 1) < 0.05 for known in profile.mpps):
        known = ", ".join(f"{m:g}" for m in profile.mpps)
        found.append(f"{mpp:g} µm/px; {profile.name} was trained at {known} µm/px")
    if strategy != "windows" and profile.strategy != "joint":
        found.append(f"several slides in one sequence; {profile.name} was trained on windows of one slide")
    return tuple(found)
