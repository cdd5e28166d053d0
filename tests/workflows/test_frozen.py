"""Slides and texts of a phantom version never change: whoever changes the generator raises its version."""

import hashlib

import numpy as np
import pytest

from workflows.phantom.cohort import draw_case
from workflows.phantom.layout import lay_out
from workflows.phantom.pathology import VERSION
from workflows.phantom.slide import render

FROZEN = {
    3: {
        ("train", 0): "76c43a104ee5b0f4",
        ("calibration", 1): "0e1865e29fd4a3b5",
        ("test", 2): "cda1d596fa9541ee",
        ("demo", 3): "f13a6ba1b8b73af3",
    }
}


def fingerprint(split: str, seed: int) -> str:
    """Of a case's texts and of its first slides, by means over 32 pixels.

    Means, because the last bit of an exponential differs between processors.
    """
    digest = hashlib.sha256()
    case = draw_case(seed, split, parts=2, slides=2, width_mm=2.4, height_mm=2.0, mpp=1.0)  # type: ignore[arg-type]
    for part in case.parts:
        digest.update(part.text.encode())
        layout = lay_out(part.slides[0])
        pixels = render(part.slides[0], layout)
        rows, columns = (n // 32 * 32 for n in pixels.shape[:2])
        blocks = pixels[:rows, :columns].reshape(rows // 32, 32, columns // 32, 32, 3).mean((1, 3))
        digest.update(np.rint(blocks).astype(np.uint8).tobytes())
        digest.update(f"{(layout.lesion > 0).mean():.3f}".encode())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(("split", "seed"), list(FROZEN[VERSION]))
def test_a_version_is_frozen(split: str, seed: int) -> None:
    found = fingerprint(split, seed)
    assert found == FROZEN[VERSION][split, seed], f"phantom {VERSION} changed: raise VERSION and freeze it ({found})"
