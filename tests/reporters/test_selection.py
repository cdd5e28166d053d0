import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reporters.selection import at_random, farthest, farthest_points

counts_of_slides = st.lists(st.integers(1, 50), min_size=1, max_size=6)


@given(counts_of_slides, st.integers(1, 60), st.integers(0, 5), st.booleans())
def test_a_choice_is_in_order_of_the_right_size_and_shared_out(
    counts: list[int], budget: int, seed: int, far: bool
) -> None:
    patches = {f"s{i}": tuple(range(1, 2 * n, 2)) for i, n in enumerate(counts)}
    features = {s: np.random.default_rng(seed).normal(size=(2 * len(p), 3)) for s, p in patches.items()}
    budget = min(budget, sum(counts))
    found = (farthest(features) if far else at_random)(patches, budget, seed)
    assert sum(map(len, found.values())) == budget
    for slide, chosen in found.items():
        assert list(chosen) == sorted(set(chosen) & set(patches[slide]))
        assert abs(len(chosen) - len(patches[slide]) * budget / sum(counts)) < 1


def test_the_farthest_are_the_odd_ones() -> None:
    features = np.zeros((30, 2), np.float32)
    features[[7, 19]] = [[9, 0], [0, 9]]
    assert {7, 19} < set(farthest({"s": features})({"s": tuple(range(30))}, 3, 0)["s"])


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
