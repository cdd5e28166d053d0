from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporters.plan import PartPlan
from reporters.planning import check_asked, look_again, make_plan
from reporters.profiles import Profile, find_profile
from reporters.sequence import Grammar, uniform
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models import find_checkpoint
from wsi_pipeline.settings import ReportSettings

BOI, SOFT, EOI = 901, 902, 903


class Letters:
    """A tokenizer of one token per character."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        assert not add_special_tokens
        return [ord(c) for c in text]


PROFILE = Profile(
    name="letters", native_tokens=16, trained_tokens=(1, 4, 16), context=400, strategy="joint", patch_size=768,
    mpps=(1.0,), opening="<", slide_marker="S{n}:", marker_every={1: 4, 4: 2}, prompt="?", closing=">", end=".",
    max_slides=9,
)  # fmt: skip
GRAMMAR = Grammar(Letters(), PROFILE, BOI, SOFT, EOI)


def test_one_token_per_patch_is_bare_and_causal() -> None:
    made = GRAMMAR.sequence(uniform([5], 1), "?")
    text = "".join(chr(i) if i < 900 else "#" for i in made.ids)
    assert text == "<S1:####S1:#S1:?>"
    assert not made.types.any()
    assert made.chunk_ends == ((10, 1, 0, 4), (14, 1, 4, 5))


def test_several_tokens_per_patch_are_parted_by_a_marker() -> None:
    made = GRAMMAR.sequence(uniform([1, 1], 4), "?")
    text = "".join(chr(i) if i < 900 else {BOI: "[", SOFT: "#"}[i] for i in made.ids)
    assert text == "<S1:[####S1:S2:[####S2:?>"
    assert (made.ids[made.types == 1] == SOFT).all()
    assert made.types.sum() == 8


def test_native_tokens_are_written_as_gemmas_processor_does() -> None:
    made = GRAMMAR.sequence(uniform([2], 16), "?")
    text = "".join(chr(i) if i < 900 else {BOI: "[", SOFT: "#", EOI: "]"}[i] for i in made.ids)
    image = "\n\n[" + "#" * 16 + "]\n\n"
    assert text == f"<S1:{image}{image}?>"


def test_slides_may_count_from_another_number() -> None:
    made = GRAMMAR.sequence(uniform([5, 1], 1), "?", first_number=9)
    text = "".join(chr(i) if i < 900 else "#" for i in made.ids)
    assert text == "<S9:####S9:#S9:S10:#S10:?>"
    assert [chunk[1] for chunk in made.chunk_ends] == [9, 9, 10]


def test_several_numbers_of_tokens_may_be_mixed() -> None:
    made = GRAMMAR.sequence([[1, 4, 1, 1, 4], [16, 1]], "?")
    text = "".join(chr(i) if i < 900 else {BOI: "[", SOFT: "#", EOI: "]"}[i] for i in made.ids)
    # four patches at T = 1 fill a chunk, two at T = 4, or one of these and two of those
    assert text == "<S1:#[#####S1:#[####S1:S2:\n\n[" + "#" * 16 + "]\n\n#S2:?>"
    assert [chunk[2:] for chunk in made.chunk_ends] == [(0, 3), (3, 5), (5, 7)]
    assert made.grids.tolist() == [1, 4, 1, 1, 4, 16, 1]
    assert made.types[made.soft].tolist() == np.repeat([0, 1, 0, 0, 1, 1, 0], made.grids).tolist()


def test_markers_may_be_left_out_and_places_written() -> None:
    places = [[(0.0, 1.5), (123.44, 2.0)], [(7.0, 0.04)]]
    made = GRAMMAR.laid_out(slide_markers=False, coordinates=True).sequence([[1, 4], [1]], "?", places=places)
    text = "".join(chr(i) if i < 900 else {BOI: "[", SOFT: "#", EOI: "]"}[i] for i in made.ids)
    assert text == "<(000.0, 001.5) #(123.4, 002.0) [####(007.0, 000.0) #?>"
    assert made.chunk_ends == ()


@given(st.lists(st.lists(st.sampled_from([1, 4, 16]), max_size=40), max_size=9), st.booleans(), st.booleans())
def test_the_arithmetic_charges_every_token(slides: list[list[int]], markers: bool, coordinates: bool) -> None:
    grammar = GRAMMAR.laid_out(markers, coordinates)
    places = [[(999.9, float(i)) for i in range(len(slide))] for slide in slides]
    made = grammar.sequence(slides, "instruction", places=places)
    assert grammar.length(slides, "instruction") == len(made.ids)
    assert len(made.soft) == sum(map(sum, slides)) == made.grids.sum()
    assert (made.ids[made.soft] == SOFT).all()


def plan(counts: list[int], **given: object):  # type: ignore[no-untyped-def]
    patches = {f"s{i}": n for i, n in enumerate(counts)}
    return make_plan(patches, PROFILE, GRAMMAR, "?", ReportSettings(max_new_tokens=50, **given), 768, 1.0)


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


MERGING = PROFILE.model_copy(update={"merge_prompt": "{findings}"})


def grouped(counts: list[int], **given: object):  # type: ignore[no-untyped-def]
    patches = {f"s{i}": n for i, n in enumerate(counts)}
    grammar = Grammar(Letters(), MERGING, BOI, SOFT, EOI)
    return make_plan(patches, MERGING, grammar, "?", ReportSettings(max_new_tokens=50, **given), 768, 1.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=20).filter(any))
def test_auto_reads_every_patch_of_parts_that_one_sequence_cannot_hold(counts: list[int]) -> None:
    made = grouped(counts)
    seen: dict[str, list[int]] = {}
    for window in made.windows:
        assert window.tokens <= PROFILE.context - 50
        assert len(window.slides) <= 9
        for share in window.slides:
            seen.setdefault(share.slide, []).extend(share.patches)
    assert seen == {f"s{i}": list(range(n)) for i, n in enumerate(counts) if n}
    assert made.strategy == ("joint" if len(made.windows) == 1 else "groups")


def test_groups_are_few_and_of_about_as_many_slides() -> None:
    made = grouped([2] * 14)
    assert [len(w.slides) for w in made.windows] == [7, 7]
    assert made.tokens_per_patch == 16
    assert [len(w.slides) for w in grouped([2] * 9).windows] == [9]


def test_a_context_too_short_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ModelError, match=r"one patch takes .* tokens.*--max-new-tokens"):
        make_plan({"s": 3}, PROFILE, GRAMMAR, "?" * 390, ReportSettings(max_new_tokens=50), 768, 1.0)


def test_leaving_what_was_trained_is_said() -> None:
    made = plan([3])
    assert made.deviations == ()
    other = make_plan({"s": 3}, PROFILE, GRAMMAR, "?", ReportSettings(max_new_tokens=50), 896, 0.5)
    assert "896 px" in other.deviations[0]
    assert "0.5 µm/px" in other.deviations[1]


@pytest.mark.parametrize(
    ("name", "family"),
    [("google/medgemma-1.5-4b-it", "medgemma-1.5"), ("google/medgemma-4b-it", "medgemma-1"), ("/x/mine", "gemma-3")],
)
def test_families_are_told_by_name(name: str, family: str, tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "vision_config": {}, "text_config": {"max_position_embeddings": 131072}}
    found = find_profile(name, tmp_path, config)
    assert found.name == family
    assert found.context == 32_768
    assert found.native_tokens == 256


def test_medgemma_windows_hold_126_patches_as_it_was_trained(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "vision_config": {}, "text_config": {"max_position_embeddings": 131072}}
    profile = find_profile("google/medgemma-1.5-4b-it", tmp_path, config)

    class Gemma(Letters):
        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return [1] if text == "\n\n" else [2] * (len(text) // 5)

    grammar = Grammar(Gemma(), profile, BOI, SOFT, EOI)
    made = make_plan({"s": 1000}, profile, grammar, profile.prompt, ReportSettings(max_new_tokens=200), 768, 1.0)
    sizes = [len(w.slides[0].patches) for w in made.windows]
    assert sum(sizes) == 1000
    assert 120 <= max(sizes) <= 126


def test_a_text_only_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="without vision"):
        find_profile("x/y", tmp_path, {"model_type": "gemma3_text"})


def test_the_shipped_checkpoint_has_a_card() -> None:
    checkpoint = find_checkpoint("phantom")
    profile = find_profile("phantom", checkpoint.folder, checkpoint.config)
    assert profile.domain == "phantom"
    assert np.isin([1, 4], profile.trained_tokens).all()
