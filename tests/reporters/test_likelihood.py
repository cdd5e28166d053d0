"""How likely what is found was held, whatever else an answer says."""

import numpy as np
import pytest

from reporters.likelihood import of_findings
from reporters.parse import parse_lines
from reporters.writer import Draft

ANSWER = "Slide 1: Polyp; focal\nSlide 2: Benign\nColon, biopsy;\n- Polyp; focal; slide 1"
FINDINGS = ("Polyp;", "Benign\n")


def written(text: str, unlikely: list[int], ends: list[int] | None = None) -> Draft:
    """Each character is a token, unless ends say otherwise; those of these numbers have a log-probability of -1."""
    ends = ends or list(range(1, len(text) + 1))
    logprobs = np.zeros(len(ends), np.float32)
    logprobs[unlikely] = -1
    return Draft(text, np.zeros(len(ends), np.int64), np.array(ends), logprobs, None, False)


def places(text: str) -> list[int]:
    return [i for f in FINDINGS for i in range(text.index(f), text.index(f) + len(f) - 1)]


def test_what_is_found_on_slides_counts_word_by_word() -> None:
    found = written(ANSWER, places(ANSWER))
    assert of_findings(found, parse_lines(ANSWER)) == pytest.approx(-11)


def test_extents_lists_and_the_conclusion_do_not() -> None:
    others = sorted(set(range(len(ANSWER))) - set(places(ANSWER)))
    assert of_findings(written(ANSWER, others), parse_lines(ANSWER)) == 0


def test_a_token_that_holds_the_beginning_of_a_finding_counts() -> None:
    text = "Slide 1: Polyp\nColon, biopsy;\n- Polyp; slide 1"
    found = written(text, [1], ends=[8, 11, len(text)])  # "Slide 1:", " Po", the rest
    assert of_findings(found, parse_lines(text)) == pytest.approx(-1)


def test_without_lines_the_whole_answer_counts() -> None:
    text = "Colon, biopsy;\n- Polyp"
    assert of_findings(written(text, [0, 3, 20]), parse_lines(text)) == pytest.approx(-3)
