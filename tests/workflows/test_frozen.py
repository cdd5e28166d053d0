"""Slides and texts of a phantom version never change: whoever changes the generator raises its version."""

import numpy as np
import pytest

from tests.workflows.frozen import FILE, digest, drawn, frozen_cases, looks
from workflows.phantom.drawing.cohort import PhantomCase
from workflows.phantom.pathology import VERSION

_NEARLY = 3
"""Steps of a hundredth of a grey level. The last bit of an exponential differs between processors, and now and then a
nucleus with it; another generator changes nearly every block by more."""
_SAME = 0.9
CASES = dict(frozen_cases())


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=list(CASES))
def test_a_version_is_frozen(name: str, case: PhantomCase) -> None:
    with np.load(FILE) as known:
        wanted, told = known[name].astype(int), str(known[f"{name}, told"])
    found, says = looks(case)
    assert says == told
    same = (np.abs(found.astype(int) - wanted) <= _NEARLY).mean()
    assert same >= _SAME, f"phantom {VERSION} changed: raise VERSION and freeze it (tests/workflows/frozen.py)"


def test_what_is_drawn_before_painting_is_frozen_to_the_last_digit() -> None:
    with np.load(FILE) as known:
        wanted = str(known["drawn"])
    assert digest(drawn()) == wanted, f"phantom {VERSION} changed: raise VERSION and freeze it"


def test_another_slide_is_told_apart() -> None:
    with np.load(FILE) as known:
        wanted = known["Colon: Hyperplastic polyp"].astype(int)
    found, _ = looks(CASES["Colon: Chronic active colitis"])
    assert (np.abs(found.astype(int) - wanted) <= _NEARLY).mean() < 0.5
