"""Reasons not to let a checkpoint write on a part at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reporters.profiles import Profile
from wsi_pipeline.store.outcome import SlideOutcome


def why_not(profile: Profile | None, phantoms: Mapping[str, bool], outcomes: Sequence[SlideOutcome]) -> str | None:
    """Why no diagnosis will be written; None when nothing speaks against it.

    Args:
        profile: of the checkpoint; None when none was asked for.
        phantoms: of the slides that would be read, which are phantoms.
        outcomes: how the slides of the part ended, as far as is known.
    """
    if profile is None:
        return "no model was asked to write (--model none): measurements only"
    if not phantoms:
        ends = {outcome.status for outcome in outcomes}
        if ends == {"no_tissue"}:
            return "no tissue was found on its slides"
        return "none of its slides could be read" if "failed" in ends else "none of its slides is to be read"
    real = [slide for slide, phantom in phantoms.items() if not phantom]
    if profile.domain == "phantom" and real:
        return (
            f"the phantom model has learnt synthetic slides only and does not write on real ones "
            f"({len(real)} of {len(phantoms)} slides are not phantoms): measurements only"
        )
    return None
