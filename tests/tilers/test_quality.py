import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tilers.quality import COLUMNS, measure


@pytest.mark.parametrize(("ink", "pen"), [((20, 40, 190), True), ((20, 130, 50), True), ((150, 70, 145), False)])
def test_ink_is_counted_and_stain_is_not(ink: tuple[int, int, int], pen: bool) -> None:
    patch = np.full((256, 256, 3), 242, np.uint8)
    patch[:64] = ink
    assert dict(zip(COLUMNS, measure(patch, 1, 1.0), strict=True))["pen"] == pytest.approx(0.25 if pen else 0, abs=0.02)


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 0.67, 2.0]), st.integers(40, 70))
def test_columns_are_what_they_say(seed: int, mpp: float, edge: int) -> None:
    patch = np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), np.uint8)
    found = dict(zip(COLUMNS, measure(patch, 0.75, mpp), strict=True))
    step = max(1, round(2.0 / mpp))
    side = edge // step * step
    small = patch[:side, :side].reshape(side // step, step, side // step, step, 3).mean((1, 3))
    grey = small @ np.array([0.299, 0.587, 0.114])
    assert found["valid"] == 0.75
    assert found["background"] == pytest.approx((small.min(2) > 220).mean())
    assert found["focus"] == pytest.approx(ndimage.laplace(grey)[1:-1, 1:-1].var())
    assert found["dark"] == pytest.approx((grey < 50).mean())
