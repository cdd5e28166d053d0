"""`report.html`: one file, no network, printable, everything from outside escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from reporters.render.pictures import SlidePictures
from reporters.render.words import confidence_words
from reporters.schema import Evidence, PartReport, Report, Sentence


def render_html(report: Report, pictures: Mapping[str, SlidePictures]) -> str:
    """The page of a report.

    Args:
        report: the data.
        pictures: by slide; slides without are listed in words.
    """
    names = {slide.id: f"S{n}" for n, slide in enumerate(report.slides, 1)}
    parts = [
        _part_view(part, [s.id for s in report.slides if s.part == part.name], names, pictures) for part in report.parts
    ]
    text = (
        environment()
        .get_template("report.html.jinja")
        .render(report=report, parts=parts, names=names, rows=_rows(report), confidence=confidence_words)
    )
    return str(text)


_MOST_SHOWN = 6
"""Patches of a slide, unless the diagnosis rests on more."""


def _part_view(
    part: PartReport, members: Sequence[str], names: Mapping[str, str], pictures: Mapping[str, SlidePictures]
) -> dict[str, Any]:
    """What the template needs of a part: the slides that show the diagnosis first, then its others."""
    sentences: dict[str, list[Sentence]] = {}
    for finding in part.findings:
        if len(finding.slides) == 1:
            sentences.setdefault(finding.slides[0], []).extend(finding.sentences)
    answer = [e for s in part.answer for e in s.evidence]
    others = sorted((e for f in part.findings for s in f.sentences for e in s.evidence), key=lambda e: -e.weight)
    shown = part.seen_on or tuple(dict.fromkeys(e.slide for e in (*answer, *others)))
    order = [*shown, *(slide for slide in members if slide not in shown)]
    figures = [
        {
            "id": slide,
            "name": names[slide],
            "sentences": sentences.get(slide, []),
            "pictures": pictures[slide],
            "evidence": _shown([e for e in answer if e.slide == slide], [e for e in others if e.slide == slide]),
        }
        for slide in order
        if slide in pictures
    ]
    return {
        "report": part,
        "figures": [f for f in figures if f["id"] in shown],
        "others": [f for f in figures if f["id"] not in shown],
        "loose": [f for f in part.findings if len(f.slides) != 1],
        "uncited": [f for f in part.findings if not f.cited],
    }


def _shown(answer: Sequence[Evidence], others: Sequence[Evidence]) -> list[Evidence]:
    """All that the diagnosis rests on, in its order, filled up with the strongest of what findings do."""
    own = {e.patch for e in answer}
    patches: dict[int, Evidence] = {}
    for piece in (*answer, *others):
        patches.setdefault(piece.patch, piece)
    return list(patches.values())[: max(_MOST_SHOWN, len(own))]


def _rows(report: Report) -> list[tuple[str, str]]:
    p = report.provenance
    rows = [
        ("Software", p.software),
        ("Model", f"{p.model}, revision {p.model_revision}" if p.model_revision else p.model),
        ("Profile", p.profile or "none"),
        ("Arithmetic", f"encoder {p.encoder_dtype}, writer {p.writer_dtype}" if p.encoder_dtype else "none"),
        ("Content fingerprint", p.fingerprint),
        ("Finished", f"{moment(report.run.finished)} on {report.run.device}, {report.run.seconds:.1f} s"),
    ]
    for part in report.parts:
        if part.plan:
            plan = part.plan
            zoomed = f"{plan.fine:,} patches at {plan.finest}, " if plan.fine_tokens_per_patch else ""
            words = (
                f"{plan.strategy}, {len(plan.sequences)} window(s), {plan.tokens_per_patch} token(s) per patch, "
                f"{zoomed}{plan.tokens:,} tokens; instruction sha256 {p.prompts.get(part.title, '')[:12]}"
            )
            rows.append((f"Plan, {part.title}", words))
            rows += [("Deviation", text) for text in plan.deviations]
    return rows


def moment(stamp: str) -> str:
    """`2026-11-23T22:45:42+00:00` as people write it."""
    return stamp[:16].replace("T", " ") + " UTC" if stamp.endswith("+00:00") else stamp


@lru_cache(maxsize=1)
def environment() -> Any:
    """Templates, with escaping on and unknown names refused."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("reporters.render", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
