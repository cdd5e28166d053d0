"""From the patches of a case to its published report: plan, encode what the plan needs, draft, render."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reporters.answers import PartDraft
from reporters.draft import draft_part
from reporters.gate import why_not
from reporters.instructions import instruction_for
from reporters.plan import PartPlan
from reporters.render import render_html, render_text, take_pictures
from reporters.report import completeness_of, make_report
from reporters.schema import ALGORITHM, SCHEMA, Provenance, Report, Run
from reporters.selection import Choose, Patches, at_random, farthest, standing_out
from reporters.strategies import fine_tokens, finest_of_search
from workflows.confidence import confidence_in, held_against_patches, samples_for
from wsi_pipeline.cases import Part
from wsi_pipeline.errors import StoreError
from wsi_pipeline.events import emit
from wsi_pipeline.settings import Objection
from wsi_pipeline.store.fingerprint import fingerprint
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.publish import opened_or_removed, publishing
from wsi_pipeline.store.tokens import TokenStore
from wsi_pipeline.store.verdicts import verdicts

if TYPE_CHECKING:
    from workflows.case import Work

PlannedPart = tuple[Part, PartPlan | None, str | None]
"""A part, its plan, or why it has none."""


def encode_and_report(work: Work, started: float) -> tuple[Path, Report]:
    """Publish the case's report unless the newest one already is it; its folder, and the report."""
    planned = [_plan(part, work) for part in work.case.parts]
    tokens = _encode(planned, work)
    name = _content_name(planned, work)
    if (existing := _published(work, name)) is not None:
        return existing
    drafts = [_draft(part, plan, reason, work, tokens) for part, plan, reason in planned]
    kept = work.settings.report.allow_incomplete
    completeness = [
        completeness_of(part, work.outcomes, draft.plan, kept)
        for part, draft in zip(work.case.parts, drafts, strict=True)
    ]
    confidences = [
        confidence_in(draft, work) if whole.complete else None
        for draft, whole in zip(drafts, completeness, strict=True)
    ]
    report = make_report(
        work.case, work.outcomes, work.stores, drafts, completeness, confidences,
        _provenance(planned, work, name), _run_block(work, started),
    )  # fmt: skip
    return _publish(report, work), report


def encode_case(work: Work) -> None:
    """Plan and encode only."""
    _encode([_plan(part, work) for part in work.case.parts], work)


def _slides_to_read(part: Part, work: Work) -> dict[str, PatchStore]:
    return {s.id: store for s in part.slides if (store := work.stores.get(s.id)) is not None and len(store)}


def _plan(part: Part, work: Work) -> PlannedPart:
    stores = _slides_to_read(part, work)
    counts = {slide: len(store) for slide, store in stores.items()}
    profile = work.model.profile
    phantoms = {slide: store.facts.phantom for slide, store in stores.items()}
    reason = why_not(profile, phantoms, [work.outcomes[s.id] for s in part.slides])
    if reason is not None or profile is None:
        return part, None, reason
    unwanted = work.settings.report.leave_out
    left_out = {slide: _objectionable(store, unwanted) for slide, store in stores.items()} if unwanted else {}
    if sum(map(len, left_out.values())) == sum(counts.values()):
        return part, None, f"every patch is {' or '.join(unwanted)} and was left out (--leave-out)"
    plan = work.model.plan(part, counts, work.settings, left_out, *_choosers(stores, work))
    emit(
        "plan", part=part.title, strategy=plan.strategy, tokens_per_patch=plan.tokens_per_patch,
        windows=len(plan.sequences), tokens=plan.tokens, patches=plan.patches_read,
    )  # fmt: skip
    return part, plan, None


def _choosers(stores: Mapping[str, PatchStore], work: Work) -> tuple[Choose, Choose, Choose]:
    """How `--max-patches` and `--fine-patches` are chosen, and what stands out; where tokens decide, every patch is
    encoded when asked."""
    settings = work.settings.report

    @cache  # a plan asks again when not all fit
    def tokens(grid: int) -> dict[str, NDArray[np.float32]]:
        return {s: _tokens(s, grid, work).read(0, len(store), 1)[:, 0] for s, store in stores.items()}

    def novel(patches: Patches, budget: int, seed: int) -> dict[str, tuple[int, ...]]:
        assert work.model.profile
        # the store that the plan will need serves both
        grid = fine_tokens(work.model.profile) if settings.plan == "mixed" else 1
        return farthest(tokens(grid))(patches, budget, seed)

    def stands_out(patches: Patches, budget: int, seed: int) -> dict[str, tuple[int, ...]]:
        assert work.model.profile
        grid = finest_of_search(work.model.profile, settings.tokens_per_patch)
        return standing_out(tokens(grid))(patches, budget, seed)

    return at_random if settings.select == "random" else novel, novel, stands_out


def _objectionable(store: PatchStore, unwanted: Sequence[Objection]) -> frozenset[int]:
    found = verdicts(store.quality)
    return frozenset(int(i) for what in unwanted for i in np.flatnonzero(found[what]))


def _encode(planned: Sequence[PlannedPart], work: Work) -> dict[str, TokenStore]:
    """Token stores of every slide in a plan, at the T the plan needs."""
    stores: dict[str, TokenStore] = {}
    for _, plan, _ in planned:
        if plan is not None:
            for slide in dict.fromkeys(name for window in plan.windows for name in window.names):
                stores[slide] = _tokens(slide, plan.finest, work)
                work.token_stores[slide] = stores[slide].path
    return stores


def _tokens(slide: str, tokens_per_patch: int, work: Work) -> TokenStore:
    """Those of a slide, encoded unless they are there."""
    from wsi_pipeline.encoders.encode import tokens_fingerprint

    name = tokens_fingerprint(str(work.model.revision), work.model.dtype, tokens_per_patch, work.names[slide])
    final = work.folder.tokens(slide, name)
    if (store := opened_or_removed(final, TokenStore)) is None:
        work.model.encoder.encode(work.stores[slide], work.names[slide], tokens_per_patch, final)
        store = TokenStore(final)
    if store.facts.revision != work.model.revision:
        raise StoreError(final, "holds tokens of another model revision", "delete it and run again")
    return store


def _draft(
    part: Part, plan: PartPlan | None, reason: str | None, work: Work, tokens: dict[str, TokenStore]
) -> PartDraft:
    if plan is None:
        return PartDraft(no_diagnosis=reason)
    settings = work.settings.report.model_copy(update={"samples": samples_for(plan, work)})
    draft = draft_part(part, plan, work.model.writer, _slides_to_read(part, work), tokens, settings)
    second = work.model.second_reader
    if second is None or not held_against_patches(plan, work):
        return draft
    (window,) = plan.windows
    return replace(draft, backing=second.backing(draft.findings, draft.specimen, window, tokens))


def _content_name(planned: Sequence[PlannedPart], work: Work) -> str:
    """Names the content of the report: plans, tokens, model, settings, and how every slide ended."""
    return fingerprint(
        stage="report",
        schema=SCHEMA,
        case=work.case.id,
        algorithm=ALGORITHM,
        software=version("wsi-pipeline"),
        parts=[[_part_facts(part, work), plan, reason] for part, plan, reason in planned],
        profile=work.model.profile,
        revision=work.model.revision,
        calibration=work.model.calibration,
        second_reader=work.model.second_reader_is,
        dtype=work.model.dtype if work.model.checkpoint else None,
        settings=work.settings.report,
    )


def _part_facts(part: Part, work: Work) -> list[object]:
    slides = [[s.id, s.stain, work.names.get(s.id), work.outcomes[s.id]] for s in part.slides]
    return [part.name, part.tissue, part.procedure, part.context, slides]


def _published(work: Work, name: str) -> tuple[Path, Report] | None:
    folders = work.folder.report_folders()
    if not folders:
        return None
    try:
        report = Report.model_validate_json((folders[-1] / "report.json").read_text())
    except (OSError, ValueError):
        return None
    return (folders[-1], report) if report.provenance.fingerprint == name else None


def _provenance(planned: Sequence[PlannedPart], work: Work, name: str) -> Provenance:
    model = work.model
    prompts = {
        part.title: hashlib.sha256(instruction_for(model.profile, part).encode()).hexdigest()
        for part, plan, _ in planned
        if plan and model.profile
    }
    used = {slide: work.folder.patches(slide, work.names[slide]) for slide in work.stores}
    stores = {f"{slide}/patches": path.name for slide, path in used.items()}
    stores |= {f"{slide}/tokens": path.name for slide, path in work.token_stores.items()}
    read = any(plan for _, plan, _ in planned)
    return Provenance(
        software=f"wsi-pipeline {version('wsi-pipeline')}",
        model=model.settings.name,
        model_revision=model.revision,
        profile=model.profile.name if model.profile else None,
        encoder_dtype=model.dtype if read else None,
        writer_dtype=model.dtype if read else None,
        prompts=prompts,
        settings={
            "tile": work.settings.tile.model_dump(mode="json"),
            "model": model.settings.model_dump(mode="json"),
            "report": work.settings.report.model_dump(mode="json"),
        },
        fingerprint=name,
        stores=stores,
    )


def _run_block(work: Work, started: float) -> Run:
    from workflows.case import now

    return Run(
        finished=now(),
        seconds=round(time.monotonic() - started, 2),
        host=platform.node(),
        device=work.model.device if work.model.checkpoint else "cpu",
    )


def _publish(report: Report, work: Work) -> Path:
    """Write the next numbered folder: JSON, page and text."""
    shown: dict[str, set[int]] = {slide: set() for slide in work.stores}
    for part in report.parts:
        for sentence in (*part.answer, *(s for f in part.findings for s in f.sentences)):
            for piece in sentence.evidence:
                shown[piece.slide].add(piece.patch)
    pictures = {slide: take_pictures(work.stores[slide], patches) for slide, patches in shown.items()}
    existing = work.folder.report_folders()
    number = int(existing[-1].name) + 1 if existing else 1
    final = work.folder.reports / f"{number:04d}"
    with publishing(final) as partial:
        (partial / "report.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (partial / "report.html").write_text(render_html(report, pictures), encoding="utf-8")
        (partial / "report.txt").write_text(render_text(report), encoding="utf-8")
    emit("report.published", case=report.case, folder=str(final))
    return final


def headlines(report: Report) -> tuple[str, ...]:
    """A line per part, for lists of cases."""
    lines = []
    for part in report.parts:
        text = part.no_diagnosis or " · ".join(s.text for s in part.diagnosis)
        head = f"{part.specimen}; " if part.specimen and not part.no_diagnosis else ""
        name = f"{part.title}: " if part.name else ""
        prefix = "no diagnosis: " if part.no_diagnosis else ""
        lines.append(f"{name}{prefix}{head}{text}"[:240])
    return tuple(lines)
