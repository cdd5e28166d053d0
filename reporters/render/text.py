"""`report.txt`: to paste into a laboratory system. Plain text, 78 columns."""

from __future__ import annotations

import textwrap

from reporters.render.words import confidence_words
from reporters.schema import PartReport, Report, Sentence

_WIDTH = 78


def render_text(report: Report) -> str:
    """The report in words."""
    names = {slide.id: f"S{n}" for n, slide in enumerate(report.slides, 1)}
    lines = [f"CASE {report.case}", "PRELIMINARY DRAFT", *_wrap(report.notice)]
    if report.phantom:
        lines.append("All slides are synthetic phantoms; there is no patient.")
    for part in report.parts:
        lines += ["", *_part(part, names)]
    lines += ["", "SLIDES"]
    for slide in report.slides:
        facts = [slide.status.replace("_", " ")]
        if slide.reason:
            facts.append(slide.reason)
        if slide.tissue_mm2 is not None:
            resolutions = f"{slide.mpp:.4g} um/px read at {slide.patch_mpp:.4g}"
            facts.append(f"{slide.patches} patches, {slide.tissue_mm2:.2f} mm2 tissue, {resolutions}")
        lines += _wrap(f"{names[slide.id]} {slide.id}: {'; '.join([*facts, *slide.quality, *slide.warnings])}", "   ")
    p = report.provenance
    lines += ["", "PROVENANCE"]
    lines += _wrap(f"{p.software}; model {p.model}, revision {p.model_revision or 'none'}; content {p.fingerprint}")
    return "\n".join(lines) + "\n"


def _part(part: PartReport, names: dict[str, str]) -> list[str]:
    head = part.title.upper()
    described = ", ".join(filter(None, (part.tissue, part.procedure)))
    lines = [f"{head} - {described}" if described else head]
    if part.specimen:
        lines.append(f"{part.specimen};")
    if part.no_diagnosis:
        lines += _wrap(f"No diagnosis: {part.no_diagnosis}")
    for sentence in part.leaning:
        lines += _wrap("It leaned to: " + sentence.text + _basis(sentence, names, len(part.leaning) == 1), "   ")
    for sentence in part.diagnosis:
        lines += _wrap("- " + sentence.text + _basis(sentence, names, len(part.diagnosis) == 1), "  ")
    done = part.completeness
    read = f"{done.patches_read} of {done.patches_found} patches" if part.plan else "No patches"
    lines.append(f"{read} read, {done.slides_read} of {done.slides} slides. Confidence: {confidence_words(part)}.")
    lines += [line for remark in part.remarks for line in _wrap(f"DOUBT: {remark}", "   ")]
    if not done.complete:
        kept = "are KEPT on request (--allow-incomplete)" if done.negatives_kept else "are withheld"
        lines.append(f"INCOMPLETE: negative statements {kept}.")
    lines += [line for gap in done.gaps for line in _wrap(f"Not looked at: {gap}", "   ")]
    lines += _wrap(f"ADDENDUM: {done.addendum}", "   ") if done.addendum else []
    for finding in part.findings:
        where = ", ".join(names[s] for s in finding.slides)
        mark = "" if finding.cited else " (not cited above)"
        lines += _wrap(f"{finding.id} {where}{mark}: {' '.join(s.text for s in finding.sentences)}", "   ")
    if part.unparsed:
        lines += ["Also written by the model:", *[w for line in part.unparsed for w in _wrap(line, "   ")]]
    return lines


def _basis(sentence: Sentence, names: dict[str, str], alone: bool) -> str:
    """Where a sentence of the diagnosis is seen, else what it cites."""
    if sentence.seen_on:
        return f" ({', '.join(names[s] for s in sentence.seen_on)})"
    return f" [{', '.join(sentence.cites)}]" if sentence.cites and not alone else ""


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False) or [""]
