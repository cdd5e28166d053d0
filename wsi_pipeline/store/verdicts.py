"""What the quality columns of a patch store mean in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.settings import Objection

BLURRED_BELOW = 15.0
"""Variance of the Laplacian of luminance at 2 µm/px below which a reader would call stained tissue blurred."""
DARK_ABOVE = 0.20
"""Dark share above which a patch is called dark: a fold, pigment, or very dense nuclei."""
PEN_ABOVE = 0.20
"""Ink share above which a patch is called marked."""

WORDS: dict[Objection, str] = {
    "blurred": "blurred",
    "dark": "dark (fold, pigment or dense nuclei)",
    "pen": "under pen marks",
}
"""Objections as a report says them."""


def verdicts(columns: Mapping[str, NDArray[np.float32]]) -> dict[Objection, NDArray[np.bool_]]:
    """Which patches a reader would object to, by objection, (N,) each."""
    return {
        "blurred": columns["focus"] < BLURRED_BELOW,
        "dark": columns["dark"] > DARK_ABOVE,
        "pen": columns["pen"] > PEN_ABOVE,
    }
