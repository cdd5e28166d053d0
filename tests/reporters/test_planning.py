"""Which patches a plan reads, with how many tokens, in which sequences."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporters.plan import PartPlan
from reporters.planning import make_plan
from tests.reporters.letters import GRAMMAR, MERGING, PROFILE, plan
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ReportSettings


@pytest.mark.parametrize(("count", "tokens"), [(5, 16), (30, 4), (180, 1)])
def test_joint_takes_the_largest_t_that_fits(count: int, tokens: int) -> None:
    made = plan([count])
    assert (made.tokens_per_patch, made.patches_read, len(made.windows)) == (tokens, count, 1)
    assert made.tokens <= PROFILE.context - 50


def test_a_number_of_tokens_may_be_asked_for() -> None:
    assert plan([5], tokens_per_patch=4).tokens_per_patch == 4
    assert plan([5], tokens_per_patch=1, plan="windows").tokens_per_patch == 1
    with pytest.raises(ModelError, match="trained with 1, 4, 16"):
        plan([5], tokens_per_patch=9)


def test_joint_samples_with_a_quota_when_nothing_fits() -> None:
    made = plan([600, 300])
    read = {share.slide: len(share.patches) for share in made.windows[0].slides}
    assert made.patches_found == 900
    assert made.patches_read == sum(read.values()) < 900
    assert abs(read["s0"] - 2 * read["s1"]) <= 2
    assert made.tokens <= PROFILE.context - 50
    assert made == plan([600, 300])
    assert made != plan([600, 300], seed=1)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 120), min_size=1, max_size=8).filter(any))
def test_windows_hold_every_patch_once_in_order(counts: list[int]) -> None:
    made = plan(counts, plan="windows")
    seen: dict[str, list[int]] = {}
    for window in made.windows:
        assert window.tokens <= PROFILE.context - 50
        (share,) = window.slides
        seen.setdefault(share.slide, []).extend(share.patches)
    assert seen == {f"s{i}": list(range(n)) for i, n in enumerate(counts) if n}
    assert made.patches_read == sum(counts)


def test_how_a_sequence_is_laid_out_is_recorded_and_charged() -> None:
    usual, other = plan([6, 6]), plan([6, 6], order="random", slide_markers=False, coordinates=True)
    assert (usual.order, usual.slide_markers, usual.coordinates, usual.deviations) == ("spatial", True, False, ())
    assert (other.order, other.slide_markers, other.coordinates) == ("random", False, True)
    assert len(other.deviations) == 3
    assert other == plan([6, 6], order="random", slide_markers=False, coordinates=True)
    assert other != plan([6, 6], order="random", slide_markers=False, coordinates=True, seed=1)
    for one, two in zip(usual.windows[0].slides, other.windows[0].slides, strict=True):
        assert one.patches != two.patches
        assert set(one.patches) == set(two.patches)
    assert other.tokens_per_patch < usual.tokens_per_patch


@pytest.mark.parametrize("strategy", ["joint", "windows", "mixed"])
def test_random_order_reads_the_same_patches(strategy: str) -> None:
    made = plan([30, 11], plan=strategy, order="random", fine_patches=5, max_patches=24)
    usual = plan([30, 11], plan=strategy, fine_patches=5, max_patches=24)

    def read(of: PartPlan) -> list[tuple[str, int]]:
        return sorted((share.slide, patch) for w in of.windows for share in w.slides for patch in share.patches)

    assert read(made) == read(usual)


def test_max_patches_samples_the_part() -> None:
    assert plan([20, 20], max_patches=10).patches_read == 10


def test_too_many_slides_for_one_context_are_refused() -> None:
    with pytest.raises(ModelError, match="10 slides in one part; the checkpoint was trained for at most 9"):
        plan([1] * 10)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=20).filter(any))
def test_auto_reads_every_patch_of_parts_that_one_sequence_cannot_hold(counts: list[int]) -> None:
    made = plan(counts, MERGING)
    seen: dict[str, list[int]] = {}
    for window in made.windows:
        assert window.tokens <= PROFILE.context - 50
        assert len(window.slides) <= 9
        for share in window.slides:
            seen.setdefault(share.slide, []).extend(share.patches)
    assert seen == {f"s{i}": list(range(n)) for i, n in enumerate(counts) if n}
    assert made.strategy == ("joint" if len(made.windows) == 1 else "groups")


def test_groups_are_few_and_of_about_as_many_slides() -> None:
    made = plan([2] * 14, MERGING)
    assert [len(w.slides) for w in made.windows] == [7, 7]
    assert made.tokens_per_patch == 16
    assert [len(w.slides) for w in plan([2] * 9, MERGING).windows] == [9]


def test_a_context_too_short_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ModelError, match=r"one patch takes .* tokens.*--max-new-tokens"):
        make_plan({"s": 3}, PROFILE, GRAMMAR, "?" * 390, ReportSettings(max_new_tokens=50), 768, 1.0)


def test_leaving_what_was_trained_is_said() -> None:
    made = plan([3])
    assert made.deviations == ()
    other = make_plan({"s": 3}, PROFILE, GRAMMAR, "?", ReportSettings(max_new_tokens=50), 896, 0.5)
    assert "896 px" in other.deviations[0]
    assert "0.5 µm/px" in other.deviations[1]
