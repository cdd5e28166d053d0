"""How likely the checkpoint held what it says is on the slides."""

from __future__ import annotations

from reporters.parse import Lines, without_extent
from reporters.writer import Draft


def of_findings(draft: Draft, lines: Lines) -> float:
    """Log-probability of what an answer in lines finds on each slide.

    How far a finding extends and which slides a diagnosis lists are left out: they make the answers to large parts
    unlikely, and say nothing about whether the diagnosis is right (decision 15). So is the conclusion, which repeats
    the lines. Of an answer without lines it is that of the whole.
    """
    if not lines.slides:
        return draft.logprob
    found = 0.0
    for line in lines.slides.values():
        start = draft.text.index(line.text, draft.text.index(":", line.start))
        finding = without_extent(line.text)
        found += float(draft.logprobs[draft.words(start, start + len(finding))].sum())
    return found
