import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporters.evidence import PatchPlace, attended, strongest
from reporters.parse import Span, citations, cited_within, parse_lines, plain, sentences
from reporters.safety import WITHHELD, is_negative, withhold
from reporters.schema import Completeness, Evidence, Sentence
from reporters.writer import Draft
from workflows.phantom.pathology import ORGANS
from workflows.phantom.wording import PartFinding, write_report

COMPLETE = Completeness(
    slides=1, slides_read=1, patches_found=1, patches_read=1, patches_unreadable=0, complete=True
)  # fmt: skip
INCOMPLETE = COMPLETE.model_copy(update={"complete": False})


@pytest.mark.parametrize("organ", ORGANS, ids=str)
def test_what_the_phantom_writes_is_read_back(organ) -> None:  # type: ignore[no-untyped-def]
    for lesion in organ.lesions:
        finding = PartFinding(lesion, (1, 3), "extensive")
        found = parse_lines(write_report(organ, 4, [finding, PartFinding(organ.lesions[0], (4,), "focal")]))
        assert found.specimen == f"{organ.name}, {organ.procedure}"
        first, second = found.conclusions
        assert (first.text, first.slides) == (str(finding), (1, 3))
        assert second.slides == (4,)
        assert [found.slides[n].text for n in (1, 2, 3)] == [str(finding), organ.benign.text, str(finding)]
        assert found.rest == ()
    (benign,) = parse_lines(write_report(organ, 2, [])).conclusions
    assert (benign.text, benign.slides) == (organ.benign.text, ())


@given(st.text(max_size=200))
def test_whatever_is_written_nothing_is_lost(text: str) -> None:
    found = parse_lines(text)
    kept = [s.text for s in found.slides.values()] + list(found.rest)
    kept += [found.specimen or "", *(c.text for c in found.conclusions)]
    for line in text.split("\n"):
        words = line.strip()
        if words:
            assert any(words == k or k in words for k in kept if k), words


@given(st.text(max_size=200))
def test_sentences_are_pieces_of_the_text(text: str) -> None:
    for span in sentences(text):
        assert text[span.start : span.stop] == span.text
        assert span.text.strip() == span.text


def test_sentences_and_citations() -> None:
    text = "Invasive carcinoma is seen [F1, F3]. Margins are free [F9].\nGrade 2"
    spans = sentences(text)
    assert [s.text for s in spans] == ["Invasive carcinoma is seen [F1, F3].", "Margins are free [F9].", "Grade 2"]
    assert citations(spans[0].text, {"F1", "F3"}) == ("Invasive carcinoma is seen.", ("F1", "F3"))
    assert citations(spans[1].text, {"F1"}) == ("Margins are free [F9].", ())


@pytest.mark.parametrize(
    ("group", "ids"),
    [
        ("[F1-F3]", ("F1", "F2", "F3")), ("[F1–3]", ("F1", "F2", "F3")), ("[F1, F2, and F4]", ("F1", "F2", "F4")),
        ("[F1, 2 and 3]", ("F1", "F2", "F3")), ("(F2)", ()), ("[F3; F1]", ("F3", "F1")), ("[F1] [F2]", ("F1", "F2")),
        ("[F2 to F9]", ()), ("(see F2)", ()),
    ],
)  # fmt: skip
def test_citations_are_read_however_they_are_written(group: str, ids: tuple[str, ...]) -> None:
    text, cited = citations(f"Carcinoma {group}.", {"F1", "F2", "F3", "F4"})
    assert cited == ids
    assert text == ("Carcinoma." if ids else f"Carcinoma {group}.")


def test_citations_behind_a_full_stop_belong_to_what_ends_there() -> None:
    told = "Carcinoma is present. [F2] The rest is unremarkable. [F1, F3]\nGrade 2.\n[F2]"
    assert cited_within(told) == "Carcinoma is present [F2]. The rest is unremarkable [F1, F3].\nGrade 2 [F2]."


@pytest.mark.parametrize(
    "text",
    [
        "[F1] Carcinoma. [F2] Glands.", "1. [F1] Carcinoma.\n2. [F2] Glands.",
        "Diagnosis:\n[F1] Carcinoma.\n[F2] Glands.",
        "Finding [F1] shows carcinoma. [F2] shows normal glands.", "- **[F1] Carcinoma.** [F2] Glands.",
    ],
)  # fmt: skip
def test_citations_before_what_they_belong_to_stay(text: str) -> None:
    assert cited_within(text) == text


def test_a_citation_that_never_closes_takes_no_time() -> None:
    cut = "Carcinoma. [" + ", ".join(f"F{n}" for n in range(10, 400))
    assert cited_within(cut) == cut
    assert citations(cut, {"F10"}) == (cut, ())


def test_numbers_of_lists_and_abbreviations_end_no_sentence() -> None:
    told = "## **Diagnosis:**\n\n1.  **Invasive carcinoma**, grade 2. Ki-67 approx. 20 %."
    text = f"{told}\n* No invasion, e.g. of nerves.\n---\nER positive. > 90 % of nuclei."
    assert [plain(s.text) for s in sentences(text)] == [
        "Diagnosis:", "1.  Invasive carcinoma, grade 2.", "Ki-67 approx. 20 %.", "No invasion, e.g. of nerves.",
        "ER positive.", "> 90 % of nuclei.",
    ]  # fmt: skip


def block(*texts: str) -> tuple[Sentence, ...]:
    return tuple(Sentence(text=t, method="none") for t in texts)


@pytest.mark.parametrize(
    "texts",
    [
        ("No evidence of malignancy.",), ("Negative for dysplasia",), ("Benign prostatic tissue",),
        ("Margins are free of tumour",), ("Reactive follicular hyperplasia",), ("No pathologic change",),
        ("Absence of invasion.",), ("None of the slides shows carcinoma",), ("Malignancy is excluded",),
        ("Carcinoma cannot be identified",), ("Non-neoplastic mucosa",), ("Margins are clear of tumour",),
        ("Tumour-free margins",), ("Lacks features of dysplasia",), ("Neither atypia",), ("0/12 nodes involved",),
        ("Nonneoplastic mucosa",), ("There isn’t any atypia",), ("0 of 12 lymph nodes involved",), ("pT2 pN0",),
        ("Devoid of atypia",), ("Nil malignancy",), ("Healthy mucosa",), ("Failed to show carcinoma",),
        ("Ruling out carcinoma",), ("Uninvolved mucosa",), ("Malignancy is unlikely",), ("There isn't any atypia",),
        ("Negative for:", "- carcinoma", "- high grade dysplasia"), ("There is no evidence of", "malignancy."),
        ("No atypia, e.g.", "nuclear enlargement or invasive carcinoma."), ("Intact epithelium throughout",),
        ("Colonic mucosa with preserved architecture",), ("The margins are spared",), ("Typical colonic mucosa",),
        ("Resection margins R0",), ("pT2 L0 V0 Pn0",), ("Carcinoma, completely excised",), ("Chronic gastritis only",),
    ],
)  # fmt: skip
def test_denials_of_disease_are_withheld_from_incomplete_parts_as_a_whole(texts: tuple[str, ...]) -> None:
    sentences = block(*texts)
    (left,) = withhold(sentences, INCOMPLETE)
    assert left.text == WITHHELD
    assert withhold(sentences, INCOMPLETE.model_copy(update={"negatives_kept": True})) == sentences
    assert withhold(sentences, COMPLETE) == sentences


@pytest.mark.parametrize(
    "text", ["Invasive ductal carcinoma, grade 2", "Adenocarcinoma is present.", "Atypical glands"]
)
def test_findings_of_disease_stay(text: str) -> None:
    assert not is_negative(text)
    assert withhold(block(text), INCOMPLETE) == block(text)


PLACES = [PatchPlace("s", i, 100 * i, 0, 768.0, (0.0, 0.0)) for i in range(3)]


def test_evidence_is_where_the_words_of_the_sentence_looked() -> None:
    attention = np.array([[0.1, 0, 0], [0, 0.3, 0.1], [0, 0.5, 0.1]], np.float32)
    draft = Draft("A. Bc d", np.zeros(3, np.int64), np.array([2, 5, 7]), np.zeros(3), attention, False)
    first, second = attended(draft, Span("Bc d", 3, 7), PLACES, 2)
    assert (first.patch, second.patch) == (1, 2)
    assert first.weight == pytest.approx(0.8)
    assert attended(draft, Span("A.", 0, 2), PLACES, 5)[0].weight == 1
    assert (
        attended(Draft("A", np.zeros(1, np.int64), np.array([1]), np.zeros(1), None, False), Span("A", 0, 1), PLACES, 2)
        == ()
    )


def test_inherited_evidence_keeps_each_patch_once() -> None:
    pieces = [Evidence(slide="s", patch=p, x=0, y=0, edge=1, weight=w) for p, w in ((1, 0.2), (2, 0.5), (1, 0.9))]
    assert [(e.patch, e.weight) for e in strongest(pieces, 5)] == [(1, 0.9), (2, 0.5)]
