"""Negative statements about what was not read whole are withheld."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reporters.schema import Completeness, Sentence

_NEGATIVE = re.compile(
    r"\b(no|non\w*|not|none|nor|nil|zero|neither|never|cannot|without|negative|absen(t|ce)|lack(s|ing)?|devoid|free|"
    r"clear|benign|normal|healthy|unremarkable|uninvolved|unlikely|reactive|within normal limits|fail(s|ed|ure)? to|"
    r"rul(e[sd]?|ing) out|exclu(de[sd]?|ding|sion)|(0|zero) ?(/|of) ?\d+|[cpyra]*[NMRLV]0|Pn0|preserved|unaffected|"
    r"spared|intact|inconspicuous|typical|physiologic(al)?|only|"
    r"complete(ly)? (excised|resected|removed|excision|resection))\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
WITHHELD = "Withheld: a negative statement cannot be made, because the part was not read whole."


def is_negative(text: str) -> bool:
    """Whether a text denies disease somewhere. Errs on the side of yes."""
    return bool(_NEGATIVE.search(text))


def withhold(block: Sequence[Sentence], completeness: Completeness) -> tuple[Sentence, ...]:
    """The sentences of a diagnosis or finding, or one replacement when any of them denies disease in a part with gaps.

    A block stands or falls as a whole: "Negative for:" on one line and "carcinoma" on the next must not be parted.
    """
    if completeness.complete or completeness.negatives_kept or not is_negative(" ".join(s.text for s in block)):
        return tuple(block)
    return (Sentence(text=WITHHELD, method="none", withheld=True),)
