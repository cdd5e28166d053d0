import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reporters.selection import farthest_points


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_rows_are_chosen_once(rows: int, count: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    chosen = farthest_points(features, count, seed % rows)
    assert len(set(chosen.tolist())) == min(rows, count)
    assert chosen[0] == seed % rows


def test_every_cluster_is_visited_before_any_twice() -> None:
    centres = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], np.float32)
    features = np.repeat(centres, 10, axis=0) + np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    assert sorted(farthest_points(features, 4) // 10) == [0, 1, 2, 3]
