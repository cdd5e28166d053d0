"""Numbers for what a place of a phantom slide shows: 0 normal tissue, k diagnosis k of the organ, then the rest."""

from __future__ import annotations

from workflows.phantom.drawing import artefacts
from workflows.phantom.pathology import ORGANS

MOST = max(len(organ.diagnoses) for organ in ORGANS)
"""Diagnoses of the organ that has most."""
REDRAWN = 2 * MOST - 1
"""Normal tissue drawn anew, with the border of a lesion."""
CONTENTS = REDRAWN + 1 + len(artefacts.NAMES)
"""Numbers that a place's content can have."""


def mimic_of(diagnosis: int) -> int:
    """The number of the mimic of an organ's diagnosis."""
    return MOST - 1 + diagnosis


def artefact(name: str) -> int:
    """The number of an artefact."""
    return REDRAWN + 1 + artefacts.NAMES.index(name)
