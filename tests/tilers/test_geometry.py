import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tilers.geometry import Box, is_upsampling, make_grid, pick_level, window
from tilers.grid import tissue_fractions

mpps = st.floats(0.1, 1.05)
lengths = st.integers(1, 60_000)


@given(lengths, lengths, mpps, st.integers(0, 500), st.integers(0, 500))
def test_grid_covers_the_bounds_once(width: int, height: int, mpp: float, x: int, y: int) -> None:
    grid = make_grid(Box(x, y, width, height), 768, 1 / mpp)
    origins = grid.origins
    assert len(origins) == grid.columns * grid.rows
    assert origins[0].tolist() == [x, y]
    assert origins[-1][0] < x + width
    assert origins[-1][1] < y + height
    assert origins[-1][0] + grid.step >= x + width - 1
    assert origins[-1][1] + grid.step >= y + height - 1
    steps = np.diff(origins[: grid.columns, 0])
    assert np.all(np.abs(steps - grid.step) <= 1)


@given(st.lists(st.floats(1.1, 40), max_size=6), st.floats(0.1, 4), st.floats(0.1, 4))
def test_level_is_the_coarsest_that_needs_no_upsampling(factors: list[float], mpp: float, target: float) -> None:
    downsamples = [1.0, *sorted(factors)]
    level = pick_level(downsamples, target / mpp)
    if level:
        assert downsamples[level] * mpp <= target * 1.05 + 1e-9
    better = [d for d in downsamples if downsamples[level] < d and d * mpp <= target * 1.05]
    assert not better


def test_upsampling_has_a_tolerance_of_five_percent() -> None:
    assert not is_upsampling(1.05, 1.0)
    assert is_upsampling(1.06, 1.0)


@given(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(10, 4000), st.floats(1, 40))
def test_window_holds_the_wanted_area(x: float, y: float, edge: float, downsample: float) -> None:
    found = window(x, y, (edge, edge), downsample)
    left, top, right, bottom = found.crop
    assert 0 <= left <= right <= found.width
    assert 0 <= top <= bottom <= found.height
    assert math.isclose(found.x + left, x / downsample, abs_tol=2e-3)
    assert math.isclose(found.y + bottom, (y + edge) / downsample, abs_tol=2e-3)


@given(st.integers(0, 2**32 - 1), st.integers(20, 90), st.integers(20, 90))
def test_tissue_fractions_add_up_to_the_mask(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    grid = make_grid(Box(0, 0, width * 8, height * 8), 96, 1.0)
    fractions = tissue_fractions(mask, grid)
    assert fractions.min() >= -1e-9
    assert fractions.max() <= 1 + 1e-9
    assert math.isclose(fractions.sum() * 96 * 96, mask.sum() * 64, rel_tol=1e-6, abs_tol=1e-3)


def test_tissue_fraction_of_a_patch_half_covered() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:, :5] = True
    grid = make_grid(Box(0, 0, 2000, 2000), 1000, 1.0)
    assert tissue_fractions(mask, grid).tolist() == [0.5, 0.0, 0.5, 0.0]
