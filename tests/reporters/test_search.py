"""Parts of more patches than one sequence holds: seen from afar, closely where something stands out, and confirmed."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporters.answers import PartDraft
from reporters.draft import draft_part
from reporters.plan import PartPlan, SlideShare, Window
from reporters.planning import check_asked
from reporters.selection import standing_out
from tests.reporters.letters import MERGING, PROFILE, plan
from tests.reporters.told import Told, stored
from wsi_pipeline.cases import Part
from wsi_pipeline.errors import ModelError
from wsi_pipeline.settings import ReportSettings

LINES = MERGING.model_copy(update={"answer": "lines"})
NOTHING = "\nColon, biopsy;\n- Benign"


def says(*lines: str) -> str:
    """An answer about slides, whose conclusion lists those that are not benign."""
    found = [line for line in dict.fromkeys(lines) if line != "Benign"]
    shown = {f: ", ".join(str(n) for n, line in enumerate(lines, 1) if line == f) for f in found}
    concluded = "".join(f"\n- {f}; slide{'s' * (', ' in shown[f])} {shown[f]}" for f in found) or "\n- Benign"
    return "\n".join(f"Slide {n}: {line}" for n, line in enumerate(lines, 1)) + f"\nColon, biopsy;{concluded}"


def searched(close: Sequence[str], *answers: str, evidence: int = 4) -> tuple[PartDraft, Told]:
    """Of four slides of three patches, two in a sequence; the close look is at the first two patches of some."""
    writer = Told(*answers)
    writer.profile = writer.profile.model_copy(update={"trained_tokens": (1, 4)})
    names = [f"s{n}" for n in range(4)]
    afar = [SlideShare(slide=name, patches=(0, 1, 2)) for name in names]
    near = tuple(SlideShare(slide=name, patches=(0, 1), fine=(0, 1)) for name in close)
    made = PartPlan(
        strategy="search", tokens_per_patch=1, fine_tokens_per_patch=4, patches_found=12, patches_read=12,
        windows=tuple(Window(slides=tuple(afar[n : n + 2]), tokens=9) for n in (0, 2)),
        close=(Window(slides=near, tokens=9),),
    )  # fmt: skip
    settings = ReportSettings(max_new_tokens=50, evidence_patches=evidence)
    return draft_part(Part(None, ()), made, writer, *stored(names), settings), writer  # type: ignore[arg-type]


WELL = says("Benign", "Benign")


def test_what_is_seen_closely_and_again_by_itself_is_the_diagnosis() -> None:
    draft, writer = searched(["s1", "s2"], WELL, WELL, says("Benign", "Polyp; focal"), *[says("Polyp; focal")] * 2)
    (polyp,) = draft.diagnosis
    assert (polyp.text, polyp.seen_on, polyp.cites) == ("Polyp; focal", ("s2",), ("F3",))
    assert {e.slide for e in polyp.evidence} == {"s2"}
    assert [f.slides[0] + " " + f.sentences[0].text for f in draft.findings] == [
        "s0 Benign", "s1 Benign", "s2 Polyp; focal", "s3 Benign",
    ]  # fmt: skip
    assert [f.patches for f in draft.findings] == [3, 2, 2, 3]
    assert draft.specimen == "Colon, biopsy"
    assert draft.remarks == ()
    assert draft.plan
    assert [(w.slides[0].patches, bool(w.slides[0].fine)) for w in draft.plan.alone] == [
        ((0, 1), False),
        ((0, 1), True),
    ]
    assert draft.plan.tokens == 27 + sum(w.tokens for w in draft.plan.alone)
    assert writer.answers == []


@pytest.mark.parametrize("opinions", [("Polyp", "Benign"), ("Benign", "Polyp")])
def test_what_is_not_named_again_does_not_count(opinions: tuple[str, str]) -> None:
    draft, _ = searched(["s1", "s2"], WELL, WELL, says("Benign", "Polyp"), *map(says, opinions))
    (benign,) = draft.diagnosis
    assert (benign.text, benign.seen_on) == ("Benign", ())
    assert draft.remarks == ("s2: Polyp was named when the slide was read closely, among other slides; unconfirmed",)
    # the slide's own line is the one that counts
    assert draft.findings[2].sentences[0].text == opinions[1]


def test_a_slide_called_diseased_by_different_names_is_not_denied() -> None:
    opinions = says("Cancer, grade 2"), says("Cancer, grade 1")
    draft, _ = searched(["s1", "s2"], WELL, WELL, says("Benign", "Cancer, grade 1"), *opinions)
    assert draft.diagnosis == ()
    assert str(draft.no_diagnosis).startswith("read by itself, s2 is called diseased by different names")
    assert draft.logprob is None
    another = [says("Polyp")] * 2
    draft, _ = searched(["s1", "s2"], WELL, WELL, says("Polyp", "Cancer"), *another, says("Cancer"), says("Colitis"))
    assert [(s.text, s.seen_on) for s in draft.diagnosis] == [("Polyp", ("s1",))]
    assert draft.remarks == ("s2: Cancer was named when the slide was read closely, among other slides; unconfirmed",)


def test_what_is_concluded_on_no_slide_is_a_remark() -> None:
    draft, _ = searched(["s1"], WELL, WELL, "Slide 1: Benign\nColon, biopsy;\n- Carcinoma")
    assert [s.text for s in draft.diagnosis] == ["Benign"]
    assert "Carcinoma was concluded by 1 of 3 sequences on no slide" in draft.remarks
    assert any(remark.startswith("closely: ") for remark in draft.remarks)


def test_without_patches_shown_nothing_rests_on_attention() -> None:
    draft, _ = searched(["s1", "s2"], WELL, WELL, says("Benign", "Polyp"), *[says("Polyp")] * 2, evidence=0)
    assert {s.method for f in draft.findings for s in f.sentences} == {"none"}


def test_a_long_slide_is_told_by_the_window_that_confirms_it() -> None:
    writer = Told(says("Benign"), says("Benign"), says("Polyp"), says("Benign"), *[says("Polyp"), says("Benign")] * 2)
    made = PartPlan(
        strategy="search", tokens_per_patch=1, patches_found=6, patches_read=6,
        windows=tuple(Window(slides=(SlideShare(slide="s0", patches=p),), tokens=9) for p in ((0,), (1, 2))),
        close=tuple(Window(slides=(SlideShare(slide="s0", patches=p),), tokens=9) for p in ((0,), (1, 2))),
    )  # fmt: skip
    draft = draft_part(Part(None, ()), made, writer, *stored(["s0"]), ReportSettings(max_new_tokens=50))  # type: ignore[arg-type]
    assert [s.text for s in draft.diagnosis] == ["Polyp"]
    assert [s.text for f in draft.findings for s in f.sentences] == ["Polyp"]


def test_what_a_slide_shows_it_says_by_itself() -> None:
    draft, _ = searched(["s1", "s2"], WELL, WELL, says("Benign", "Polyp"), says("Colitis"), says("Colitis"))
    assert [(s.text, s.seen_on) for s in draft.diagnosis] == [("Colitis", ("s2",))]
    assert len(draft.remarks) == 1


def test_what_is_seen_from_afar_alone_is_a_remark() -> None:
    draft, writer = searched(["s0"], says("Benign", "Polyp"), WELL, says("Benign"))
    assert [(s.text, s.seen_on) for s in draft.diagnosis] == [("Benign", ())]
    assert draft.remarks == ("s1: Polyp was named when the slide was read from afar; unconfirmed",)
    assert len(writer.asked) == 3


def test_what_is_seen_closely_is_looked_for_where_it_was_seen_from_afar() -> None:
    afar, again = (says("Benign", "Polyp"), says("Colitis", "Benign")), [says("Polyp")] * 4
    draft, writer = searched(["s0"], *afar, says("Polyp"), *again, evidence=1)
    assert [s.seen_on for s in draft.diagnosis] == [("s0", "s1")]
    assert draft.plan
    assert [w.names for w in draft.plan.alone] == [("s0",), ("s0",), ("s1",), ("s1",)]
    assert len(draft.diagnosis[0].evidence) == 1
    assert draft.remarks == ("s2: Colitis was named when the slide was read from afar; unconfirmed",)
    assert len(writer.asked) == 7


def test_one_finding_on_several_slides_is_one_sentence() -> None:
    again = [says("Polyp; focal")] * 2 + [says("Polyp; extensive")] * 2
    draft, _ = searched(["s0", "s3"], says("Benign", "Benign"), WELL, says("Polyp; focal", "Polyp; extensive"), *again)
    (polyp,) = draft.diagnosis
    assert polyp.seen_on == ("s0", "s3")
    assert polyp.cites == ("F1", "F4")


def test_without_a_conclusion_of_every_sequence_there_is_no_diagnosis() -> None:
    draft, _ = searched(["s1"], WELL, "Slide 1: Benign\nSlide 2: Benign", says("Benign"))
    assert draft.diagnosis == ()
    assert "no conclusion was written about 1 of 3 sequences" in str(draft.no_diagnosis)
    assert len(draft.findings) == 4


def test_where_every_slide_is_called_diseased_and_by_different_names_there_is_no_diagnosis() -> None:
    ill = says("Polyp", "Polyp")
    again = [says("Polyp"), says("Colitis")] * 4
    draft, _ = searched(["s1"], ill, ill, says("Polyp"), *again)
    assert draft.diagnosis == ()
    assert "different names" in str(draft.no_diagnosis)
    assert len(draft.remarks) == 4


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 30))
def test_a_search_reads_every_patch_and_some_closely(counts: list[int], closely: int) -> None:
    made = plan(counts, LINES, plan="search", fine_patches=closely)
    read = [(s.slide, p) for w in made.windows for s in w.slides for p in s.patches]
    assert sorted(read) == sorted((f"s{i}", p) for i, n in enumerate(counts) for p in range(n))
    assert (made.patches_read, made.tokens_per_patch, made.fine_tokens_per_patch) == (sum(counts), 1, 16)
    near = [(s.slide, p) for w in made.close for s in w.slides for p in s.patches]
    assert set(near) <= set(read)
    assert len(near) == len(set(near)) == min(closely, sum(counts))
    assert all(t == 16 for w in made.close for slide in made.grids(w) for t in slide)
    assert all(w.tokens <= 350 and len(w.slides) <= 9 for w in (*made.windows, *made.close))
    assert made.longest == max(w.tokens for w in (*made.windows, *made.close))


def test_what_does_not_fit_one_sequence_is_searched_by_who_answers_in_lines() -> None:
    assert plan([5, 5], LINES).strategy == "joint"
    assert plan([5] * 10, LINES).strategy == "search"  # more slides than it was taught
    assert plan([400], LINES).strategy == "search"
    assert plan([400], MERGING).strategy == "groups"
    with pytest.raises(ModelError, match="answers in free text"):
        check_asked(PROFILE, ReportSettings(plan="search"))


@given(st.integers(0, 10**6), st.integers(0, 199))
def test_one_odd_patch_of_many_stands_out(seed: int, at: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(200, 8)).astype(np.float32)
    rows[at] += 20
    features = {"a": rows[:120], "b": rows[120:]}
    picked = standing_out(features)({"a": range(120), "b": range(80)}, 8, seed)
    slide, patch = ("a", at) if at < 120 else ("b", at - 120)
    assert patch in picked[slide]
    beside = {p for p in (patch - 1, patch, patch + 1) if 0 <= p < len(features[slide])}
    assert beside <= set(picked[slide])
    assert sum(map(len, picked.values())) <= 24
    assert all(list(p) == sorted(p) for p in picked.values())


def test_neighbours_are_those_of_the_slide_in_whatever_order_it_is_read() -> None:
    rows = np.zeros((10, 2), np.float32)
    rows[5] = 9
    shuffled = (3, 5, 9, 0, 1, 6, 2, 4, 8, 7)
    picked = standing_out({"a": rows})({"a": shuffled}, 2, 0)["a"]
    assert {4, 5, 6} <= set(picked)
    assert list(picked) == [p for p in shuffled if p in picked]


def test_patches_that_were_left_out_do_not_stand_out() -> None:
    rows = np.zeros((10, 2), np.float32)
    rows[5] = 9
    kept = tuple(i for i in range(10) if i != 5)
    assert standing_out({"a": rows})({"a": kept}, 2, 0)["a"] != (5,)
    assert 5 not in standing_out({"a": rows})({"a": kept}, 9, 0)["a"]
