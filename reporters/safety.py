"""Negative statements about what was not read whole are withheld."""

from __future__ import annotations

import re

from reporters.schema import Completeness, Sentence

_NEGATIVE = re.compile(
    r"\b(no|not|without|negative|absen(t|ce)|free of|benign|normal|unremarkable|reactive|"
    r"within normal limits|fails? to show|rule[sd]? out)\b",
    re.IGNORECASE,
)
WITHHELD = "Withheld: a negative statement cannot be made, because the part was not read whole."


def is_negative(text: str) -> bool:
    """Whether a sentence denies disease. Errs on the side of yes."""
    return bool(_NEGATIVE.search(text))


def withhold(sentence: Sentence, completeness: Completeness, allow_incomplete: bool) -> Sentence:
    """The sentence, or its replacement when it denies disease in a part with gaps."""
    if completeness.complete or allow_incomplete or not is_negative(sentence.text):
        return sentence
    return Sentence(text=WITHHELD, method="none", withheld=True)
