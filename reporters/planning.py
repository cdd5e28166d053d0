"""Make the plan of a part: pick patches and a strategy, and say where it leaves what the checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from reporters.plan import PartPlan, Strategy, Window
from reporters.profiles import Profile
from reporters.selection import Choose, Patches, at_random, shuffled, strongest_of
from reporters.sequence import Grammar
from reporters.strategies import Room, close_look, coarse, fine_tokens, fitting, groups, holds, joint, mixed, separate
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ReportSettings


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
    novel: Choose = at_random,
    stands_out: Choose = at_random,
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
        choose: which patches, where `max_patches` is less than all, or one sequence does not hold them.
        novel: which patches a mixed plan reads fine, where that is told by novelty.
        stands_out: which patches a search looks at closely.

    Raises:
        ModelError: one patch, the number of slides or a mixed plan is more than the checkpoint takes, with the
            arithmetic; or it was not trained with the tokens per patch that are asked for.
    """
    found = sum(patches.values())
    out = sum(map(len, left_out.values()))
    chosen = _chosen(patches, left_out, settings, choose)
    room = room_for(profile, grammar, instruction, settings)
    strategy = _strategy(chosen, room, settings)
    fine = fine_tokens(profile) if strategy == "mixed" else room.finest if strategy == "search" else None
    tokens, windows = _arranged(strategy, chosen, room, settings, choose, novel)
    close = close_look(chosen, room, stands_out, settings) if strategy == "search" else ()
    look = _second_look(strategy, windows, chosen, room, settings)
    longest = max(window.tokens for window in (*windows, *close))
    plan = PartPlan(
        strategy=strategy,
        tokens_per_patch=tokens,
        fine_tokens_per_patch=fine,
        windows=windows,
        close=close,
        patches_found=found,
        patches_read=sum(window.patches for window in windows),
        patches_left_out=out,
        order=settings.order,
        slide_markers=settings.slide_markers,
        coordinates=settings.coordinates,
        deviations=(*_deviations(profile, strategy, patch_size, mpp), *_laid_out_otherwise(settings)),
        second_look=look,
        longest=min(room.budget, longest + look * room.fine_cost) if look else longest,
    )
    return plan if look else _with_limits(plan, profile, settings)


def _chosen(
    patches: Mapping[str, int], left_out: Mapping[str, Collection[int]], settings: ReportSettings, choose: Choose
) -> Patches:
    """Those that are read, in the order they are read in."""
    kept = {slide: tuple(i for i in range(n) if i not in left_out.get(slide, ())) for slide, n in patches.items()}
    chosen = {slide: indices for slide, indices in kept.items() if indices}
    if settings.max_patches is not None and settings.max_patches < sum(map(len, chosen.values())):
        chosen = choose(chosen, settings.max_patches, settings.seed)
    return shuffled(chosen, settings.seed) if settings.order == "random" else chosen


def look_again(
    plan: PartPlan,
    weights: Mapping[str, NDArray[np.float32]] | None,
    profile: Profile,
    grammar: Grammar,
    instruction: str,
    settings: ReportSettings,
) -> PartPlan:
    """The second reading of a mixed plan: fine where the first one looked.

    Args:
        plan: of the first reading.
        weights: per slide (patches,) how much the first reading looked at each of its patches; None where that is not
            known, and some at random are taken.
        profile, grammar, instruction, settings: as of the first.
    """
    room = room_for(profile, grammar, instruction, settings)
    (first,) = plan.windows
    chosen = {share.slide: share.patches for share in first.slides}
    _, windows = mixed(chosen, room, at_random if weights is None else strongest_of(weights), settings)
    blind = ("where a first reading looked is not known; fine patches were picked at random",)
    seen = {
        "windows": windows,
        "second_look": 0,
        "first_look_tokens": first.tokens,
        "longest": windows[0].tokens,
        "deviations": plan.deviations if weights is not None else (*plan.deviations, *blind),
    }
    return _with_limits(plan.model_copy(update=seen), profile, settings)


def room_for(profile: Profile, grammar: Grammar, instruction: str, settings: ReportSettings) -> Room:
    """What one sequence may hold, laid out as `settings` ask."""
    asked = profile if settings.tokens_per_patch is None else _of_one_grid(profile, settings.tokens_per_patch)
    laid_out = grammar.laid_out(settings.slide_markers, settings.coordinates)
    return Room(asked, laid_out, instruction, profile.longest - settings.max_new_tokens)


def check_asked(profile: Profile, settings: ReportSettings) -> None:
    """Refuse what a checkpoint cannot do, whatever the slides.

    Raises:
        ModelError: tokens per patch it was not trained with, a mixed plan when there are no two of them, or a search
            by one that answers in free text.
    """
    if settings.plan == "mixed":
        fine_tokens(profile)
    if settings.plan == "search" and profile.answer != "lines":
        reason = f"asks what is said of each slide, and {profile.name} answers in free text"
        raise ModelError("--plan search", reason, "use --plan auto")
    if settings.tokens_per_patch is not None:
        if settings.plan == "mixed":
            reason = "a mixed plan takes the smallest and the largest number that the checkpoint was trained with"
            raise ModelError("--tokens-per-patch", reason, "leave one of --plan mixed and --tokens-per-patch out")
        _of_one_grid(profile, settings.tokens_per_patch)


def _strategy(chosen: Patches, room: Room, settings: ReportSettings) -> Strategy:
    """What was asked for; a mixed plan that has room to read every patch fine is a joint one."""
    if settings.plan == "auto":
        return fitting(chosen, room)
    every = settings.fine_patches >= sum(map(len, chosen.values()))
    if settings.plan == "mixed" and every and holds(chosen, room, max(room.profile.trained_tokens)):
        return "joint"
    return settings.plan


def _arranged(
    strategy: Strategy, chosen: Patches, room: Room, settings: ReportSettings, choose: Choose, novel: Choose
) -> tuple[int, tuple[Window, ...]]:
    """Tokens per patch and windows; of a mixed plan that looks twice, and of a search, those of the first reading."""
    match strategy:
        case "joint":
            return joint(chosen, room, settings.seed, choose)
        case "groups":
            return groups(chosen, room)
        case "search":
            return groups(chosen, room.at(room.grids[0]))
        case "windows":
            return separate(chosen, room)
        case "mixed" if settings.zoom == "evidence":
            return coarse(chosen, room)
        case "mixed":
            return mixed(chosen, room, novel, settings)


def _second_look(
    strategy: Strategy, windows: Sequence[Window], chosen: Patches, room: Room, settings: ReportSettings
) -> int:
    """How many patches are read fine once a first reading has shown which; none where there is no room for one."""
    twice = strategy == "mixed" and settings.zoom == "evidence"
    if not twice or windows[0].tokens + room.fine_cost > room.budget:
        return 0
    return min(settings.fine_patches, sum(map(len, chosen.values())))


def _of_one_grid(profile: Profile, tokens: int) -> Profile:
    """The profile, with the only T that was asked for."""
    if tokens not in profile.trained_tokens:
        raise ModelError(
            f"--tokens-per-patch {tokens}",
            f"profile {profile.name} was trained with {', '.join(map(str, sorted(profile.trained_tokens)))}",
            "choose one of these",
        )
    return profile.model_copy(update={"trained_tokens": (tokens,)})


def _with_limits(plan: PartPlan, profile: Profile, settings: ReportSettings) -> PartPlan:
    """The plan, with what length makes it deviate from."""
    found = []
    longest = plan.longest + settings.max_new_tokens
    if longest > profile.context:
        found.append(f"sequences of up to {longest:,} tokens; {profile.name} is made for {profile.context:,}")
    if plan.strategy == "mixed" and (fine := plan.fine) < (wanted := min(settings.fine_patches, plan.patches_read)):
        found.append(f"room to read {fine:,} of {wanted:,} patches fine")
    return plan.model_copy(update={"deviations": (*found, *plan.deviations)})


def _deviations(profile: Profile, strategy: Strategy, patch_size: int, mpp: float) -> tuple[str, ...]:
    found = []
    if patch_size != profile.patch_size:
        found.append(f"patches of {patch_size} px; {profile.name} was trained on {profile.patch_size} px")
    if not any(abs(mpp / known - 1) < 0.05 for known in profile.mpps):
        known = ", ".join(f"{m:g}" for m in profile.mpps)
        found.append(f"{mpp:g} µm/px; {profile.name} was trained at {known} µm/px")
    if strategy == "mixed" and not profile.mixes:
        found.append(f"two numbers of tokens per patch in one sequence; {profile.name} was trained on one")
    if strategy != "windows" and profile.strategy != "joint":
        found.append(f"several slides in one sequence; {profile.name} was trained on windows of one slide")
    return tuple(found)


def _laid_out_otherwise(settings: ReportSettings) -> tuple[str, ...]:
    otherwise = {
        "patches of a slide in random order instead of rows": settings.order == "random",
        "slides not told apart by markers": not settings.slide_markers,
        "the place of each patch written before it": settings.coordinates,
    }
    return tuple(words for words, so in otherwise.items() if so)
