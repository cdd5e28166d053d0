"""Text becomes a part's draft: with a writer that writes what it is told."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from reporters.draft import draft_part
from reporters.instructions import instruction_for
from reporters.plan import PartPlan, SlideShare, Window
from reporters.planning import make_plan
from reporters.profiles import Profile
from reporters.sequence import Grammar
from reporters.writer import Draft
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ReportSettings

PROFILE = Profile(
    name="told", native_tokens=16, trained_tokens=(1,), context=400, strategy="joint", patch_size=768, mpps=(1.0,),
    opening="<", slide_marker="S{n}:", prompt="Report.\nTissue: {tissue}\nContext: {context}", closing=">", end=".",
    answer="lines", merge_prompt="{findings}\nTissue: {tissue}\nMerge.",
)  # fmt: skip


class Letters:
    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(c) for c in text]


class Told:
    """Writes its answers one after the other, looking at all patches with weights that are given or nearly alike."""

    looks: tuple[float, ...] = ()

    def __init__(self, *answers: str, answer: str = "lines", merge: str | None = PROFILE.merge_prompt) -> None:
        self.profile = PROFILE.model_copy(update={"answer": answer, "merge_prompt": merge})
        self.grammar = Grammar(Letters(), self.profile, 901, 902, 903)
        self.answers, self.asked = list(answers), []

    def write(self, sequence, tokens, longest):  # type: ignore[no-untyped-def]
        text = self.answers.pop(0)
        self.asked.append("".join(chr(i) for i in sequence.ids if i < 900))
        patches = len(sequence.grids)
        weights = np.array(self.looks or np.linspace(0.1, 0.2, patches), np.float32)
        attention = np.tile(weights, (len(text), 1)) if patches else None
        return Draft(text, np.zeros(len(text), np.int64), np.arange(1, len(text) + 1), -0.5, attention, False)


def stored(names):  # type: ignore[no-untyped-def]
    """Patch and token stores of three patches each."""
    facts = {n: SimpleNamespace(slide_id=n, patch_level0=768.0, mpp=1.0) for n in names}
    patches = {n: SimpleNamespace(facts=facts[n], coords=np.array([[0, 0], [768, 0], [0, 768]])) for n in names}
    tokens = {n: SimpleNamespace(read=lambda a, b, t: np.zeros((b - a, t, 4), np.float32)) for n in names}
    return patches, tokens


def drafted(  # type: ignore[no-untyped-def]
    writer: Told, slides: int = 2, windows: bool = False, part: Part | None = None, groups: int = 1
):  # type: ignore[no-untyped-def]
    names = [f"s{i}" for i in range(slides)]
    shares = [SlideShare(slide=n, patches=(0, 1, 2)) for n in names]
    size = 1 if windows else slides // groups
    parted = [shares[i : i + size] for i in range(0, slides, size)]
    plan = PartPlan(
        strategy="windows" if windows else "joint" if groups == 1 else "groups", tokens_per_patch=1,
        patches_found=3 * slides, patches_read=3 * slides,
        windows=tuple(Window(slides=tuple(g), tokens=9) for g in parted),
    )  # fmt: skip
    rules = ReportSettings(max_new_tokens=50)
    return draft_part(part or Part(None, ()), plan, writer, *stored(names), rules)  # type: ignore[arg-type]


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


def test_windows_are_merged_by_a_pass_that_cites() -> None:
    writer = Told("Glands.", "Necrosis.", "Carcinoma [F2]. Unsure.", answer="text")
    draft = drafted(writer, windows=True, part=Part("A", (), tissue="colon"))
    assert "F1 (s0): Glands.\nF2 (s1): Necrosis.\nTissue: colon" in writer.asked[2]
    first, second = draft.diagnosis
    assert (first.text, first.method, first.cites) == ("Carcinoma.", "inherited", ("F2",))
    assert {e.slide for e in first.evidence} == {"s1"}
    assert (second.method, second.evidence) == ("none", ())
    assert [f.cited for f in draft.findings] == [False, True]
    assert first.seen_on == ("s1",)


def test_findings_too_many_for_one_pass_are_merged_in_rounds() -> None:
    glands, cancer = "Glands without a tumour." * 5, "Carcinoma." * 11
    first, second = "Nothing here [F1, F2].", "Carcinoma [F3]. Else glands [F4]."
    last = "Carcinoma [F7]. Rest well [F6, F5]."
    writer = Told(glands, glands, cancer, glands, glands, first, second, last, answer="text")
    draft = drafted(writer, slides=5, windows=True)
    assert [asked.count("\nF") for asked in writer.asked[5:]] == [1, 1, 2]
    assert "F5 (s4): Glands" in writer.asked[7]
    assert "F6 (s0, s1): Nothing here.\nF7 (s2, s3): Carcinoma. Else glands." in writer.asked[7]
    sick, well = draft.diagnosis
    # one sentence of F7 says the same, and what it rests on is what is cited in the end
    assert (sick.text, sick.cites, sick.seen_on) == ("Carcinoma.", ("F3",), ("s2",))
    assert {e.slide for e in sick.evidence} == {"s2"}
    assert (well.cites, well.seen_on) == (("F1", "F2", "F5"), ("s0", "s1", "s4"))
    assert [f.id for f in draft.findings if not f.cited] == ["F4"]
    assert draft.logprob == pytest.approx(-4.0)


def test_findings_of_which_no_two_fit_are_listed() -> None:
    long = "Glands without a tumour." * 12
    draft = drafted(Told(long, long, long, answer="text"), slides=3, windows=True)
    assert draft.diagnosis == ()
    assert "are free; the 3 windows are listed below, not merged" in str(draft.no_diagnosis)


def test_a_citation_behind_the_full_stop_stays_with_its_sentence() -> None:
    writer = Told("Glands.", "Necrosis.", "Carcinoma. [F2] Elsewhere glands. [F1] Unsure.", answer="text")
    draft = drafted(writer, windows=True)
    assert [(s.text, s.cites) for s in draft.diagnosis] == [
        ("Carcinoma.", ("F2",)), ("Elsewhere glands.", ("F1",)), ("Unsure.", ()),
    ]  # fmt: skip
    assert draft.diagnosis[0].seen_on == ("s1",)
    assert draft.remarks == ("1 of 3 sentences of the diagnosis cite no finding.",)


def test_windows_of_lines_are_merged_without_the_names_of_slides() -> None:
    one = "Slide 1: Cancer; focal\nColon, biopsy;\n- Cancer; focal; slide 1"
    two = "Slide 1: Normal\nColon, biopsy;\n- Normal"
    writer = Told(one, two, "Colon, biopsy;\n- Cancer; focal [F1]")
    draft = drafted(writer, windows=True)
    assert "F1: Colon, biopsy; - Cancer; focal\nF2: Colon, biopsy; - Normal\n" in writer.asked[2]
    (diagnosis,) = draft.diagnosis
    assert (diagnosis.text, diagnosis.cites, diagnosis.seen_on) == ("Cancer; focal", ("F1",), ("s0",))
    assert (draft.specimen, {e.slide for e in diagnosis.evidence}) == ("Colon, biopsy", {"s0"})
    everywhere = drafted(Told(two, two, "Colon, biopsy;\n- Normal [F1, F2]"), windows=True).diagnosis[0]
    assert (everywhere.cites, everywhere.seen_on) == (("F1", "F2"), ())


def test_groups_tell_the_slides_that_their_own_answers_named() -> None:
    one = "Slide 1: Normal\nSlide 2: Cancer; focal\nColon, biopsy;\n- Cancer; focal; slide 2"
    two = "Slide 1: Cancer; focal\nSlide 2: Normal\nColon, biopsy;\n- Cancer; focal; slide 1"
    writer = Told(one, two, "Colon, biopsy;\n- Cancer; extensive [F1, F2]")
    draft = drafted(writer, slides=4, groups=2)
    (diagnosis,) = draft.diagnosis
    assert (diagnosis.cites, diagnosis.seen_on) == (("F1", "F2"), ("s1", "s2"))
    assert {e.slide for e in diagnosis.evidence} == {"s1", "s2"}
    told = {f.id: f.sentences[0].text for f in draft.findings}
    assert told == {
        "F1": "Cancer; focal", "F2": "Cancer; focal", "F1.1": "Normal", "F1.2": "Cancer; focal",
        "F2.1": "Cancer; focal", "F2.2": "Normal",
    }  # fmt: skip


def test_a_window_without_a_conclusion_leaves_no_diagnosis_and_keeps_what_was_written() -> None:
    one = "Slide 1: Normal\nColon, biopsy;\n- Normal"
    draft = drafted(Told(one, "Slide 1: Cancer; focal"), windows=True)
    assert draft.diagnosis == ()
    assert "no conclusion was written about F2" in str(draft.no_diagnosis)
    assert any(s.text == "Cancer; focal" for f in draft.findings for s in f.sentences)
    text = drafted(Told("Glands.", "", answer="text"), windows=True)
    assert (text.diagnosis, len(text.findings)) == ((), 2)
    assert "no conclusion was written about F2" in str(text.no_diagnosis)


def test_what_windows_contradict_themselves_in_is_told_of_the_whole() -> None:
    one = "Slide 1: Normal\nSlide 2: Normal\nColon, biopsy;\n- Cancer; focal; slide 2\nAs ever."
    two = "Slide 1: Normal\nSlide 2: Normal\nColon, biopsy;\n- Normal"
    draft = drafted(Told(one, two, "Colon, biopsy;\n- Cancer; focal [F1]"), slides=4, groups=2)
    assert any("listed s1 for a diagnosis, but wrote something else" in remark for remark in draft.remarks)
    assert "F1: As ever." in draft.unparsed


def test_windows_that_cannot_be_merged_are_listed() -> None:
    draft = drafted(Told("Glands.", "Necrosis.", answer="text", merge=None), windows=True)
    assert "cannot merge the findings of 2 windows" in str(draft.no_diagnosis)
    assert len(draft.findings) == 2
    long = drafted(Told("x" * 400, "Necrosis.", answer="text"), windows=True)
    assert "are free; the 2 windows are listed below" in str(long.no_diagnosis)


def test_lines_about_what_is_not_known_are_left_out_of_the_prompt() -> None:
    assert instruction_for(PROFILE, Part(None, ())) == "Report."
    assert instruction_for(PROFILE, Part(None, (), tissue="{colon}")) == "Report.\nTissue: {colon}"


def test_a_second_look_is_fine_where_the_first_one_looked() -> None:
    class Looking(Told):
        def write(self, sequence, tokens, longest):  # type: ignore[no-untyped-def]
            draft = super().write(sequence, tokens, longest)
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
        def write(self, sequence, tokens, longest):  # type: ignore[no-untyped-def]
            self.read = tokens(0, len(sequence.grids))[:, 0].tolist()
            return super().write(sequence, tokens, longest)

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
