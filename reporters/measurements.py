"""Facts about a slide that need no model, from its patch store."""

from __future__ import annotations

import numpy as np

from reporters.schema import SlideReport
from wsi_pipeline.cases import Slide
from wsi_pipeline.store.outcome import SlideOutcome
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.verdicts import WORDS, verdicts

_REMARK_FROM = 0.05
_GOOD = f"good (under {_REMARK_FROM:.0%} of patches blurred, dark or under pen marks)"


def slide_report(slide: Slide, outcome: SlideOutcome, store: PatchStore | None) -> SlideReport:
    """One slide's row: how it ended, what was measured, what to know about its quality."""
    stain = slide.stain or "H&E (assumed)"
    base = SlideReport(
        id=slide.id, part=slide.part, stain=stain, status=outcome.status, reason=outcome.reason,
        patches_unreadable=outcome.unreadable, patches_disagreeing=outcome.disagreeing,
    )  # fmt: skip
    if store is None:
        return base
    facts = store.facts
    return base.model_copy(
        update={
            "patches": len(store),
            "tissue_mm2": round(facts.tissue_mm2, 3),
            "mpp": facts.mpp,
            "mpp_source": facts.mpp_source,
            "patch_mpp": round(facts.patch_mpp, 4),
            "reader": facts.reader,
            "warnings": facts.warnings,
            "quality": _remarks(store),
        }
    )


def _remarks(store: PatchStore) -> tuple[str, ...]:
    """The verdict on a slide's quality, and how much of its tissue no patch holds."""
    if not len(store):
        return ()
    left = store.facts.tissue_left
    slivers = (
        (f"{left:.1%} of the tissue lies in no patch (what fills a patch too little, --min-tissue)",)
        if left >= 0.005
        else ()
    )
    objections = tuple(
        f"{share:.0%} of patches {WORDS[what]}"
        for what, hit in verdicts(store.quality).items()
        if (share := float(np.mean(hit))) >= _REMARK_FROM
    )
    return slivers + (objections or (_GOOD,))
