"""`index.html`: all cases, how they ended, their newest report."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from reporters.render.html import environment, moment
from wsi_pipeline.store.outcome import CaseOutcome


def render_index(outcomes: Sequence[CaseOutcome]) -> str:
    """The page that lists all cases; links are relative, so that OUT can be moved."""
    rows = [
        {
            "outcome": outcome,
            "finished": moment(outcome.finished),
            "link": quote(f"cases/{outcome.case}/{outcome.report}/report.html") if outcome.report else None,
            "bad": [s for s in outcome.slides if s.status in ("failed", "no_tissue")],
        }
        for outcome in outcomes
    ]
    return str(environment().get_template("index.html.jinja").render(rows=rows))
