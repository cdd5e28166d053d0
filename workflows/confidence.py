"""Which calibration may speak about an answer, and what it takes to ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reporters.answers import PartDraft
from reporters.confidence import PHANTOM_DOMAIN, SIGNS, Circumstances, Signs
from reporters.plan import PartPlan
from reporters.schema import Confidence
from tilers.tile import ALGORITHM as TILING
from wsi_pipeline.settings import TileSettings

if TYPE_CHECKING:
    from workflows.case import Work


def samples_for(plan: PartPlan, work: Work) -> int:
    """How many answers to draw: those asked for, or what a calibration that holds for such an answer was made with.

    None of free text, in which no two answers are the same.
    """
    asked, calibration, profile = work.settings.report.samples, work.model.calibration, work.model.profile
    if profile is None or profile.answer != "lines":
        return 0
    if asked is not None or calibration is None:
        return asked or 0
    drawn = calibration.made_for.samples
    now = _circumstances(plan, drawn, work)
    return drawn if now and calibration.holds(now, plan.tokens_per_patch, len(plan.slides)) else 0


def confidence_in(draft: PartDraft, work: Work) -> Confidence | None:
    """In a part read whole, by the checkpoint's calibration; none where that was made for something else, or cut."""
    calibration, plan = work.model.calibration, draft.plan
    if plan is None or draft.logprob is None or not draft.diagnosis or draft.truncated or calibration is None:
        return None
    samples = samples_for(plan, work)
    now = _circumstances(plan, samples, work)
    points = any(said.seen_on for said in draft.diagnosis)
    signs = Signs(draft.logprob, draft.agreement, points, draft.backing, len(plan.slides))
    return calibration.judge(signs, now, plan.tokens_per_patch, len(plan.slides)) if now else None


def held_against_patches(plan: PartPlan, work: Work) -> bool:
    """Whether a second reader can be asked: of lines about single slides, written from one sequence."""
    profile = work.model.profile
    return plan.strategy == "joint" and profile is not None and profile.answer == "lines"


def _circumstances(plan: PartPlan, samples: int, work: Work) -> Circumstances | None:
    """What a calibration must have been made for; None where none could be."""
    # no calibration tells which patches were fine, how long sequences were, or of what power slides were not
    tile = work.settings.tile
    some_fine = plan.strategy in ("mixed", "search")
    coarse = tile.mpp_tolerance > TileSettings().mpp_tolerance
    otherwise = (some_fine, work.settings.model.context_tokens, tile.force_mpp, tile.allow_upsampling, coarse)
    phantom = all(store.facts.phantom for store in work.stores.values())
    domain = PHANTOM_DOMAIN if phantom else work.settings.report.domain
    if any(otherwise) or domain is None:
        return None
    return Circumstances(
        revision=str(work.model.revision),
        signs=SIGNS,
        dtype=work.model.dtype,
        tiling=TILING,
        plan=plan.strategy,
        deviations=plan.deviations,
        samples=samples,
        second_reader=work.model.second_reader_is if held_against_patches(plan, work) else None,
        domain=domain,
    )
