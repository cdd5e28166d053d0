from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from tilers.resample import area_average, average_of_means


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


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([area_average, average_of_means]),
    st.floats(0, 3), st.floats(0, 3), st.floats(5, 16), st.integers(1, 12), st.integers(0, 255),
)  # fmt: skip
def test_a_flat_image_stays_flat(
    average: Callable[..., np.ndarray], left: float, top: float, edge: float, size: int, value: int
) -> None:
    image = np.full((20, 20, 3), value, np.uint8)
    out = average(image, (left, top, left + edge, top + edge), (size, size))
    assert out.shape == (size, size, 3)
    assert (np.abs(out.astype(int) - value) <= 1).all()


def test_the_short_cut_for_whole_factors_gives_the_same() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    exact = area_average(image, (0, 0, 64, 64), (16, 16))
    general = area_average(image, (0, 0, 64, 63.99999), (16, 16))
    assert np.abs(exact.astype(int) - general).max() <= 1


def test_averages_of_means_are_those_of_the_pixels_below() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal((400, 400)), 3)
    fine = np.uint8(128 + 30 * np.clip(noise / noise.std(), -4, 4))[..., None].repeat(3, 2)
    means = np.array(Image.fromarray(fine).reduce(2))
    wanted = area_average(fine, (3.3, 1.7, 399.1, 397.5), (100, 100)).astype(float)
    crop, size = (1.65, 0.85, 199.55, 198.75), (100, 100)
    noise_of = [((average(means, crop, size) - wanted) ** 2).mean() for average in (area_average, average_of_means)]
    assert noise_of[1] < noise_of[0] / 2
    assert 10 * np.log10(255**2 / noise_of[1]) > 45
    whole = (2.0, 4.0, 196.0, 198.0)
    assert (area_average(means, whole, (97, 97)) == average_of_means(means, whole, (97, 97))).all()


def test_a_little_less_than_one_mean_for_a_pixel() -> None:
    """A 10X level of a slide at 0.2527 µm/px: 0.989 means of 4 × 4 pixels make one of the patch's."""
    noise = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal((800, 800)), 3)
    fine = np.uint8(128 + 30 * np.clip(noise / noise.std(), -4, 4))[..., None].repeat(3, 2)
    means, edge = np.array(Image.fromarray(fine).reduce(4)), 197 * 0.9893
    wanted = area_average(fine, (4.0, 8.0, 4 + 4 * edge, 8 + 4 * edge), (197, 197)).astype(float)
    crop = (1.0, 2.0, 1 + edge, 2 + edge)
    noise_of = [
        ((average(means, crop, (197, 197)) - wanted) ** 2).mean() for average in (area_average, average_of_means)
    ]
    assert 10 * np.log10(255**2 / noise_of[0]) < 40 < 10 * np.log10(255**2 / noise_of[1])
