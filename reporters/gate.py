"""Reasons not to let a checkpoint write on a part at all."""

from __future__ import annotations

from collections.abc import Mapping

from reporters.profiles import Profile
from wsi_pipeline.store.patches import SlideFacts


def why_not(profile: Profile | None, facts: Mapping[str, SlideFacts], patches: int) -> str | None:
    """Why no diagnosis will be written; None when nothing speaks against it.

    Args:
        profile: of the checkpoint; None when none was asked for.
        facts: of the slides that would be read.
        patches: how many patches they hold together.
    """
    if profile is None:
        return "no model was asked to write (--model none): measurements only"
    if not patches:
        return "no tissue was found to read"
    real = [slide for slide, known in facts.items() if not known.phantom]
    if profile.domain == "phantom" and real:
        return (
            f"the phantom model has learnt synthetic slides only and does not write on real ones "
            f"({len(real)} of {len(facts)} slides are not phantoms): measurements only"
        )
    return None
