"""Plans that read every patch coarsely and some finely."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporters.planning import check_asked, look_again, make_plan
from tests.reporters.letters import GRAMMAR, PROFILE, plan
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ReportSettings


def test_a_mixed_plan_reads_all_and_some_of_them_finer() -> None:
    made = plan([40, 20], plan="mixed", zoom="novelty", fine_patches=7)
    (window,) = made.windows
    assert [len(share.patches) for share in window.slides] == [40, 20]
    assert sum(len(share.fine) for share in window.slides) == 7
    assert all(set(share.fine) <= set(share.patches) for share in window.slides)
    assert (made.tokens_per_patch, made.finest, made.second_look) == (1, 16, 0)
    assert sum(map(sum, made.grids(window))) == 53 + 7 * 16
    assert window.tokens == GRAMMAR.length(made.grids(window), "?") == made.longest
    assert any("two numbers of tokens" in text for text in made.deviations)
    assert not any("two numbers" in text for text in plan([9], plan="joint").deviations)


def test_a_mixed_plan_looks_again_where_it_looked_first() -> None:
    first = plan([40, 20], plan="mixed", fine_patches=3)
    assert (first.second_look, sum(map(sum, first.grids(first.windows[0])))) == (3, 60)
    weights = {"s0": np.zeros(40, np.float32), "s1": np.zeros(20, np.float32)}
    weights["s0"][[7, 30]], weights["s1"][11] = 0.2, 0.4
    rules = ReportSettings(max_new_tokens=50, plan="mixed", fine_patches=3)
    again = look_again(first, weights, PROFILE, GRAMMAR, "?", rules)
    assert [share.fine for share in again.windows[0].slides] == [(7, 30), (11,)]
    assert again.windows[0].tokens == again.longest <= first.longest
    assert (again.second_look, again.first_look_tokens) == (0, first.windows[0].tokens)
    assert again.tokens == first.windows[0].tokens + again.longest <= first.tokens
    blind = look_again(first, None, PROFILE, GRAMMAR, "?", rules)
    assert sum(len(share.fine) for share in blind.windows[0].slides) == 3
    assert any("picked at random" in text for text in blind.deviations)


@given(st.integers(1, 190), st.integers(1, 90), st.sampled_from(["novelty", "evidence"]))
def test_a_mixed_plan_never_outgrows_the_context(count: int, fine: int, zoom: str) -> None:
    made = plan([count], plan="mixed", fine_patches=fine, zoom=zoom)
    assert made.windows[0].tokens <= made.longest <= PROFILE.context - 50
    if made.second_look:
        rules = ReportSettings(max_new_tokens=50, plan="mixed", fine_patches=fine)
        again = look_again(made, {"s0": np.arange(count, dtype=np.float32)}, PROFILE, GRAMMAR, "?", rules)
        assert again.longest <= made.longest


def test_a_part_too_long_to_be_mixed_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ModelError, match=r"260 patches take 46. tokens at 1 per patch; 350 of the context of 400"):
        plan([260], plan="mixed")


def test_a_mixed_plan_with_room_for_everything_is_joint() -> None:
    made = plan([5, 3], plan="mixed")
    assert (made.strategy, made.tokens_per_patch, made.second_look, made.fine_tokens_per_patch) == (
        "joint",
        16,
        0,
        None,
    )
    assert plan([20], plan="mixed").strategy == "mixed"


@pytest.mark.parametrize("zoom", ["novelty", "evidence"])
def test_a_mixed_plan_says_how_many_fit(zoom: str) -> None:
    made = plan([186], plan="mixed", zoom=zoom)
    if made.second_look:
        made = look_again(made, None, PROFILE, GRAMMAR, "?", ReportSettings(max_new_tokens=50, plan="mixed"))
    fine = sum(len(share.fine) for share in made.windows[0].slides)
    assert 0 <= fine < 3
    assert f"room to read {fine} of 64 patches fine" in made.deviations


def test_fine_tokens_are_those_that_can_be_averaged() -> None:
    odd = PROFILE.model_copy(update={"trained_tokens": (4, 9, 16)})
    made = make_plan(
        {"s": 40}, odd, GRAMMAR, "?", ReportSettings(plan="mixed", max_new_tokens=50, fine_patches=2), 768, 1.0
    )
    assert (made.tokens_per_patch, made.fine_tokens_per_patch) == (4, 16)
    with pytest.raises(ModelError, match="one averaged from the other"):
        check_asked(odd.model_copy(update={"trained_tokens": (4, 9)}), ReportSettings(plan="mixed"))
    with pytest.raises(ModelError, match="leave one of"):
        check_asked(odd, ReportSettings(plan="mixed", tokens_per_patch=4))


def test_a_checkpoint_of_one_number_of_tokens_cannot_mix() -> None:
    only = PROFILE.model_copy(update={"trained_tokens": (16,)})
    with pytest.raises(ModelError, match="it was trained with 16"):
        make_plan({"s": 3}, only, GRAMMAR, "?", ReportSettings(plan="mixed"), 768, 1.0)
