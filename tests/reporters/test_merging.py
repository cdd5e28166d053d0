"""What several windows say becomes one diagnosis that cites them."""

import pytest

from tests.reporters.told import Told, drafted
from wsi_pipeline.cases import Part


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


def test_a_merged_answer_is_as_sure_as_all_that_it_rests_on() -> None:
    one = "Slide 1: Cancer; focal\nColon, biopsy;\n- Cancer; focal; slide 1"
    two = "Slide 1: Normal\nColon, biopsy;\n- Normal"
    writer = Told(one, two, "Colon, biopsy;\n- Cancer; focal [F1]")
    writer.doubted = (two,)
    assert drafted(writer, windows=True, samples=4).agreement == 0.5
    assert drafted(Told(one, two, "Colon, biopsy;\n- Cancer; focal [F1]"), windows=True).agreement is None


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
