"""Text becomes a part's draft: with a writer that writes what it is told."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from reporters.draft import draft_part
from reporters.instructions import instruction_for
from reporters.plan import PartPlan, SlideShare, Window
from reporters.planning import make_plan
from reporters.reading import window_tokens
from reporters.sequence import Grammar
from tests.reporters.letters import Letters
from tests.reporters.told import PROFILE, Told, drafted, stored
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ReportSettings

LINES = "Slide 1: Adenoma\nSlide 2: Normal\nColon, biopsy;\n- Adenoma; slide 1"


def test_lines_become_findings_and_a_diagnosis_that_inherits() -> None:
    draft = drafted(Told(LINES))
    assert (draft.specimen, draft.remarks, draft.unparsed) == ("Colon, biopsy", (), ())
    (diagnosis,) = draft.diagnosis
    assert (diagnosis.text, diagnosis.method, diagnosis.cites) == ("Adenoma", "inherited", ("F1",))
    assert diagnosis.seen_on == ("s0",)
    assert {e.slide for e in diagnosis.evidence} == {"s0"}
    assert draft.findings[1].sentences[0].evidence[0].patch == 2
    assert sum(e.weight for e in draft.findings[1].sentences[0].evidence) == pytest.approx(1, abs=1e-3)


def test_several_findings_name_their_own_slides() -> None:
    text = "Slide 1: Cancer; focal\nSlide 2: Polyp\nColon, biopsy;\n- Cancer; focal; slide 1\n- Polyp; slide 2"
    draft = drafted(Told(text))
    assert [(s.text, s.seen_on) for s in draft.diagnosis] == [("Cancer; focal", ("s0",)), ("Polyp", ("s1",))]
    assert draft.remarks == ()


def test_slide_0_is_no_slide() -> None:
    draft = drafted(Told("Slide 0: Cancer\n" + LINES.replace("slide 1", "slides 0, 1")))
    assert [f.id for f in draft.findings] == ["F1", "F2"]
    assert draft.unparsed == ("Slide 0: Cancer",)
    assert any("slide 0 is named, and there is none" in remark for remark in draft.remarks)


def test_evidence_of_a_diagnosis_takes_turns_between_slides() -> None:
    writer = Told("Slide 1: Adenoma\nSlide 2: Adenoma\nColon, biopsy;\n- Adenoma; slides 1, 2")
    # of slide 1 two patches stand out, of slide 2 none: shares of two wholes are not held against each other
    writer.looks = (0.5, 0.5, 0, 0.1, 0.1, 0.12)
    (diagnosis,) = drafted(writer).diagnosis
    assert [(e.slide, e.patch) for e in diagnosis.evidence][:3] == [("s0", 0), ("s1", 2), ("s0", 1)]


def test_a_diagnosis_of_no_slide_in_particular_rests_on_all() -> None:
    draft = drafted(Told("Slide 1: Normal\nSlide 2: Normal\nColon, biopsy;\n- Normal"))
    (diagnosis,) = draft.diagnosis
    assert (diagnosis.seen_on, diagnosis.cites, draft.remarks) == ((), ("F1", "F2"), ())


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (
            LINES.replace("slide 1", "slides 1, 2"),
            "listed s1 for a diagnosis, but wrote something else about that slide",
        ),
        (
            LINES.replace("Slide 2: Normal", "Slide 2: Adenoma"),
            "did not list s1 for a diagnosis, but wrote just that about the slide",
        ),
        (LINES.replace("Slide 2: Normal\n", ""), "s1 has no line of its own"),
        (LINES.replace("; slide 1", ""), "s1 has a line of its own that the diagnosis does not mention"),
        (LINES.replace("slide 1", "slides 1, 9"), "slide 9 is named, and there is none of that number"),
    ],
)
def test_a_draft_that_contradicts_itself_says_so(text: str, remark: str) -> None:
    (found,) = drafted(Told(text)).remarks
    assert remark in found


@pytest.mark.parametrize(
    ("lines", "listed", "shown"),
    [
        ("Slide 1: Adenoma\nSlide 2: Normal", "slide 2", ("s0",)),
        ("Slide 1: Adenoma\nSlide 2: Adenoma", "slide 2", ("s0", "s1")),
        ("Slide 1: Normal\nSlide 2: Normal", "slide 2", ("s1",)),
    ],
)
def test_which_slides_show_a_finding_their_own_lines_say(lines: str, listed: str, shown: tuple[str, ...]) -> None:
    draft = drafted(Told(f"{lines}\nColon, biopsy;\n- Adenoma; {listed}"))
    (diagnosis,) = draft.diagnosis
    assert diagnosis.seen_on == shown
    assert {e.slide for e in diagnosis.evidence} == set(shown)
    assert draft.remarks


@pytest.mark.parametrize(
    ("looks", "told"),
    [((0, 0.02, 0, 0, 0.4, 0), True), ((0, 0.2, 0, 0, 0.4, 0), False), ((0.5, 0, 0, 0, 0, 0), False)],
)
def test_a_finding_written_while_looking_at_another_slide_is_a_remark(looks: tuple[float, ...], told: bool) -> None:
    writer = Told(LINES)
    writer.looks = looks
    draft = drafted(writer)
    assert draft.diagnosis[0].seen_on == ("s0",)
    assert any("about s0 it wrote looking at s1" in remark for remark in draft.remarks) == told


def test_what_fits_nowhere_stays_verbatim() -> None:
    draft = drafted(Told("Slide 1: Adenoma\nSlide 7: Normal\nThe weather is fine."))
    assert draft.diagnosis == ()
    assert "no diagnosis line" in str(draft.no_diagnosis)
    assert draft.unparsed == ("The weather is fine.", "Slide 7: Normal")


def test_lines_about_what_is_not_known_are_left_out_of_the_prompt() -> None:
    assert instruction_for(PROFILE, Part(None, ())) == "Report."
    assert instruction_for(PROFILE, Part(None, (), tissue="{colon}")) == "Report.\nTissue: {colon}"


def test_a_second_look_is_fine_where_the_first_one_looked() -> None:
    class Looking(Told):
        def write(self, sequence, tokens, longest, samples, seed):  # type: ignore[no-untyped-def]
            draft = super().write(sequence, tokens, longest, samples, seed)
            self.read.append((sequence.grids.tolist(), tokens(0, len(sequence.grids)).shape))
            looked = np.zeros_like(draft.attention)
            looked[:, [1, 5]] = 0.5  # the second patch of slide 1, the third of slide 2
            return replace(draft, attention=looked)

    writer = Looking("Slide 1: Normal\nSlide 2: Normal\nColon, biopsy;\n- Normal", LINES)
    writer.profile = writer.profile.model_copy(update={"trained_tokens": (1, 4), "native_tokens": 16})
    writer.grammar, writer.read = Grammar(Letters(), writer.profile, 901, 902, 903), []
    rules = ReportSettings(max_new_tokens=50, plan="mixed", fine_patches=2)
    plan = make_plan({"s0": 3, "s1": 3}, writer.profile, writer.grammar, "?", rules, 768, 1.0)
    draft = draft_part(Part(None, ()), plan, writer, *stored(["s0", "s1"]), rules)  # type: ignore[arg-type]
    assert writer.read == [([1] * 6, (6, 4)), ([1, 4, 1, 1, 1, 4], (12, 4))]
    assert draft.plan
    assert [share.fine for share in draft.plan.windows[0].slides] == [(1,), (2,)]
    assert [sentence.text for sentence in draft.diagnosis] == ["Adenoma"]


def test_places_are_written_and_tokens_come_in_the_order_of_the_plan() -> None:
    class Reading(Told):
        def write(self, sequence, tokens, longest, samples, seed):  # type: ignore[no-untyped-def]
            self.read = tokens(0, len(sequence.grids))[:, 0].tolist()
            return super().write(sequence, tokens, longest, samples, seed)

    writer = Reading("Slide 1: Normal\nColon, biopsy;\n- Normal")
    patches, _ = stored(["s0"])
    rows = np.arange(3, dtype=np.float32)[:, None, None]
    tokens = {"s0": SimpleNamespace(read=lambda a, b, t: rows[a:b])}
    rules = ReportSettings(max_new_tokens=50, order="random", coordinates=True, slide_markers=False, seed=1)
    plan = make_plan({"s0": 3}, writer.profile, writer.grammar, "?", rules, 768, 1.0)
    draft_part(Part(None, ()), plan, writer, patches, tokens, rules)  # type: ignore[arg-type]
    order = plan.windows[0].slides[0].patches
    assert writer.read == list(order) != [0, 1, 2]
    places = ["(000.0, 000.0) ", "(000.8, 000.0) ", "(000.0, 000.8) "]
    assert writer.asked == ["<" + "".join(places[i] for i in order) + "Report.>"]


def test_only_the_tokens_of_a_chunk_are_read_whatever_the_order() -> None:
    """Of a slide of 5,000 patches, shuffled, a chunk of ten lies anywhere between its first and its last."""
    order = np.random.default_rng(0).permutation(5000)
    share = SlideShare(slide="s", patches=tuple(int(i) for i in order))
    window = Window(slides=(share,), tokens=5000)
    plan = PartPlan(strategy="joint", tokens_per_patch=4, windows=(window,), patches_found=5000, patches_read=5000)
    asked = []

    class Store:
        def read(self, start: int, stop: int, per_patch: int) -> np.ndarray:
            asked.append(stop - start)
            return np.arange(start, stop, dtype=np.float32).repeat(per_patch).reshape(-1, per_patch, 1)

    read = window_tokens(plan, window, {"s": Store()})  # type: ignore[dict-item]
    found = [read(first, first + 10) for first in range(0, 200, 10)]
    assert np.array_equal(np.concatenate(found)[:, 0], order[:200].repeat(4))
    assert sum(asked) < 300
