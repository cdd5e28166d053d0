"""How many answers drawn at random conclude the same as the one that was written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from reporters.parse import parse_lines
from reporters.writer import Draft

_BEHIND = re.compile(r"(; | \[).*")
"""A diagnosis: extent, and citations of findings."""


def agreement(draft: Draft) -> float | None:
    """The share of a draft's samples that conclude the same.

    An answer in lines concludes a specimen and diagnoses with their grades; which slides show them, and how far they
    extend, may differ. None without samples, or for answers in free text, which are never twice the same.
    """
    concluded = _concluded(draft.text)
    if not draft.samples or not concluded[1]:
        return None
    return sum(_concluded(text) == concluded for text in draft.samples) / len(draft.samples)


def of_all(agreements: Iterable[float | None]) -> float | None:
    """The chance that everything a part rests on would be concluded again; None where any is not known."""
    known = list(agreements)
    return None if None in known else math.prod(share for share in known if share is not None)


def _concluded(text: str) -> tuple[str | None, frozenset[str]]:
    lines = parse_lines(text)
    return lines.specimen, frozenset(_BEHIND.sub("", said.text) for said in lines.conclusions)
