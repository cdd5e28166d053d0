"""Slides and texts of a phantom version never change: whoever changes the generator raises its version."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workflows.frozen import (
    FILE,
    constants,
    digest,
    diseased,
    drawn,
    frozen_cases,
    looks,
    swatches,
    written,
)
from workflows.phantom.drawing.cohort import PhantomCase
from workflows.phantom.pathology import VERSION

_NEARLY = 3
"""Steps: a hundredth of a grey level, or a thousandth of a unit of stain. The last bit of an exponential differs
between processors, and now and then a nucleus with it; another generator changes nearly every block by more."""
_SAME = 0.9
_CHANGED = f"phantom {VERSION} changed: raise VERSION and freeze it (tests/workflows/frozen.py)"
CASES = dict(frozen_cases())
SWATCHES = swatches()


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=list(CASES))
def test_a_version_is_frozen(name: str, case: PhantomCase) -> None:
    with np.load(FILE) as known:
        wanted, told = known[name].astype(int), str(known[f"{name}, told"])
    found, says = looks(case)
    assert says == told
    same = _same(found, wanted)
    assert same.mean() >= _SAME, _CHANGED
    ill = _of_lesions(same, case)
    assert not ill.size or ill.mean() >= _SAME, f"a lesion: {_CHANGED}"


@pytest.mark.parametrize(("name", "seen"), SWATCHES.items(), ids=list(SWATCHES))
def test_what_few_slides_show_is_frozen(name: str, seen: NDArray[np.uint16]) -> None:
    with np.load(FILE) as known:
        wanted = known[name].astype(int)
    assert seen.any(), "it shows nothing"
    assert _same(seen, wanted).mean() >= _SAME, _CHANGED


def test_a_slide_file_of_given_pixels_is_frozen() -> None:
    with np.load(FILE) as known:
        wanted, told = known["slide file"].astype(int), str(known["slide file, told"])
    found, says = written()
    assert says == told
    assert _same(found, wanted).mean() >= _SAME, _CHANGED


@pytest.mark.parametrize(("name", "decided"), [("drawn", drawn), ("constants", constants)])
def test_what_is_decided_before_painting_is_frozen_to_the_last_digit(name: str, decided: Callable[[], str]) -> None:
    with np.load(FILE) as known:
        wanted = str(known[name])
    assert digest(decided()) == wanted, _CHANGED


def test_a_lesion_of_less_contrast_is_told_apart() -> None:
    case = CASES["contrast 0.5"]
    (part,) = case.parts
    (slide,) = part.slides
    fainter = replace(case, parts=(replace(part, slides=(replace(slide, contrast=0.0),)),))
    same = _same(looks(fainter)[0], looks(case)[0].astype(int))
    assert _of_lesions(same, case).mean() < 0.5


def test_another_mimic_is_told_apart() -> None:
    mimics = [seen for name, seen in SWATCHES.items() if name.endswith("mimic")]
    assert len(mimics) == 18
    for one, other in combinations(mimics, 2):
        assert _same(one, other.astype(int)).mean() < 0.5


def test_another_slide_is_told_apart() -> None:
    with np.load(FILE) as known:
        wanted = known["Colon: Hyperplastic polyp"].astype(int)
    found, _ = looks(CASES["Colon: Chronic active colitis"])
    assert _same(found, wanted).mean() < 0.5


def _same(found: NDArray[np.uint16], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(found.astype(int) - wanted) <= _NEARLY)


def _of_lesions(same: NDArray[np.bool_], case: PhantomCase) -> NDArray[np.bool_]:
    """Those of the blocks that show a lesion."""
    return np.asarray(np.moveaxis(same, 1, 3)[diseased(case)])
