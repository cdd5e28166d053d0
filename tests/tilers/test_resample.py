from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilers.resample import area_average


def by_hand(image: np.ndarray, crop: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Area average by painting each source pixel 40 × 40 times finer."""
    fine = image.repeat(40, 0).repeat(40, 1).astype(float)
    left, top, right, bottom = (round(v * 40) for v in crop)
    cut = fine[top:bottom, left:right]
    rows = np.linspace(0, cut.shape[0], size[0] + 1).round().astype(int)
    columns = np.linspace(0, cut.shape[1], size[1] + 1).round().astype(int)
    return np.array(
        [[cut[a:b, c:d].mean((0, 1)) for c, d in pairwise(columns)]
         for a, b in pairwise(rows)]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("crop", "size"),
    [((0, 0, 12, 12), (4, 4)), ((0.5, 0.25, 10.5, 11.25), (4, 5)), ((0, 0, 12, 12), (5, 7)), ((1, 2, 9, 10), (8, 8))],
)
def test_equals_painting_it_finer(crop: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    assert np.abs(area_average(image, crop, size) - by_hand(image, crop, size)).max() <= 1.6


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 3), st.floats(0, 3), st.floats(5, 16), st.integers(1, 12), st.integers(0, 255))
def test_a_flat_image_stays_flat(left: float, top: float, edge: float, size: int, value: int) -> None:
    image = np.full((20, 20, 3), value, np.uint8)
    out = area_average(image, (left, top, left + edge, top + edge), (size, size))
    assert out.shape == (size, size, 3)
    assert (np.abs(out.astype(int) - value) <= 1).all()


def test_the_short_cut_for_whole_factors_gives_the_same() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    exact = area_average(image, (0, 0, 64, 64), (16, 16))
    general = area_average(image, (0, 0, 64, 63.99999), (16, 16))
    assert np.abs(exact.astype(int) - general).max() <= 1
