"""What the quality columns of a patch store mean in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.settings import Objection

BLURRED_BELOW, BLURRED_BESIDE = 15.0, 0.12
"""Focus below which stained tissue is out of focus on any slide, and below which share of the third quartile of its
slide: sharp tissue of three scanners had 2,600 to 4,700, and a sixteenth to a twentieth of it once blurred by 2 µm."""
DARK_ABOVE = 0.03
"""Dark share above which a patch is called dark: folds are narrow, and darkest along their middle."""
PEN_ABOVE = 0.15
"""Ink share above which a patch is called marked."""

WORDS: dict[Objection, str] = {
    "blurred": "blurred",
    "dark": "dark (fold, pigment or dense nuclei)",
    "pen": "under pen marks (or black pigment)",
}
"""Objections as a report says them."""


def verdicts(columns: Mapping[str, NDArray[np.float32]]) -> dict[Objection, NDArray[np.bool_]]:
    """Which patches a reader would object to, by objection, (N,) each.

    Args:
        columns: of all patches of one slide, which are compared with each other.
    """
    focus = columns["focus"]
    sharp = float(np.quantile(focus, 0.75)) if len(focus) else 0.0
    return {
        "blurred": focus < max(BLURRED_BELOW, BLURRED_BESIDE * sharp),
        "dark": columns["dark"] > DARK_ABOVE,
        "pen": columns["pen"] > PEN_ABOVE,
    }
