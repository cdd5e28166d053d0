"""Words that every rendering shares."""

from __future__ import annotations

from reporters.schema import PartReport


def confidence_words(part: PartReport) -> str:
    """`93 %`, or that there is no calibration; never all or nothing, which no calibration can know."""
    return f"{min(max(part.confidence.chance, 0.01), 0.99):.0%}" if part.confidence else "not calibrated"
