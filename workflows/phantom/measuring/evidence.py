"""Whether the patches shown as evidence hold the lesion, and whether the words depend on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reporters.instructions import instruction_for
from reporters.parse import parse_lines
from reporters.plan import SlideShare, Window
from reporters.reading import window_tokens
from reporters.schema import PartReport
from reporters.sequence import ReadTokens, Sequence
from workflows.checkpoints import Model
from workflows.phantom.drawing.cohort import MAX_SLIDES, PhantomCase, PhantomPart, draw_case
from workflows.phantom.drawing.contents import MOST
from workflows.phantom.drawing.layout import lay_out
from workflows.phantom.drawing.painting import paint
from workflows.phantom.drawing.pool import content_shares, shows_lesion
from workflows.phantom.measuring.processes import single_core_processes
from workflows.phantom.measuring.reading import ReadCase, read_case, written_case
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ModelSettings, RunSettings
from wsi_pipeline.store.tokens import TokenStore

_FEWEST_SLIDES = 6


@dataclass(frozen=True)
class Look:
    """The line of one slide that names its lesion rightly, and the patches it is said to rest on.

    Attributes:
        lesion_share: of the part's patches that show a lesion.
        slide_share: of this slide's patches that do: what a random patch of it would hit.
        hit: the first patch of the evidence shows it.
        without_top, without_random: by how much the line's log-probability falls when the evidence, or as many random
            patches of the slide, are taken out of the input.
    """

    lesion_share: float
    slide_share: float
    hit: bool
    without_top: float
    without_random: float


def measure_evidence(work: Path, seed: int, parts: int, model: str, workers: int = 2) -> Iterator[list[Look]]:
    """From slide files to reports; a list per part.

    Args:
        work: folder for slides and results; each case is deleted once read.
        seed: of the first case in the test split.
        parts: how many, of 6 to 12 slides with focal lesions.
        model: checkpoint.
        workers: processes.
    """
    sizes = range(_FEWEST_SLIDES, MAX_SLIDES + 1)
    cases = [draw_case(seed + n, "test", slides=sizes[n % len(sizes)], extent="focal") for n in range(parts)]
    with single_core_processes(workers) as pool:
        yield from pool.map(_measure_one, [work] * parts, cases, [model] * parts)


def _measure_one(work: Path, truth: PhantomCase, name: str) -> list[Look]:
    with written_case(work, truth) as folder:
        read = read_case(folder, RunSettings(model=ModelSettings(name=name)))
        return list(_looks_of(read, truth.parts[0], name)) if read.report and read.report.parts[0].plan else []


def _looks_of(read: ReadCase, true: PhantomPart, name: str) -> Iterator[Look]:
    (part,) = read.case.parts
    assert read.report
    (drafted,) = read.report.parts
    patches, tokens = read.stores(part)
    shows = {
        slide: shows_lesion(content_shares(paint(spec, lay_out(spec)).content, patches[slide], spec.mpp)[..., 1:MOST]
                            .sum(-1).astype(np.float32)) for slide, spec in zip(patches, true.slides, strict=True)
    }  # fmt: skip
    wanted = {list(patches)[n - 1]: str(finding) for finding in true.findings for n in finding.slides}
    yield from _looks(drafted, wanted, shows, _Reader(Model(ModelSettings(name=name)), part, drafted, tokens))


def _looks(
    part: PartReport, wanted: Mapping[str, str], shows: Mapping[str, NDArray[np.bool_]], reader: _Reader
) -> Iterator[Look]:
    everywhere = float(np.concatenate(list(shows.values())).mean())
    for number, (slide, lesion) in enumerate(shows.items(), 1):
        said = [s for f in part.findings if f.slides == (slide,) for s in f.sentences]
        if not lesion.any() or len(said) != 1 or said[0].text != wanted.get(slide):
            continue
        if not said[0].evidence:  # a line that shows nothing misses
            yield Look(everywhere, float(lesion.mean()), False, 0.0, 0.0)
            continue
        top = [e.patch for e in said[0].evidence][: max(1, len(lesion) // 2)]
        rest = np.random.default_rng([number, len(lesion)]).choice(len(lesion), len(top), replace=False)
        whole = reader.line(number, slide, ())
        yield Look(
            everywhere,
            float(lesion.mean()),
            bool(lesion[said[0].evidence[0].patch]),
            whole - reader.line(number, slide, top),
            whole - reader.line(number, slide, [int(i) for i in rest]),
        )


class _Reader:
    """Says how likely a slide's line is when patches are missing from the input."""

    def __init__(self, model: Model, part: Part, report: PartReport, tokens: Mapping[str, TokenStore]) -> None:
        self._writer, self._tokens = model.writer, tokens
        self._instruction = instruction_for(self._writer.profile, part)
        assert report.plan
        self._plan = report.plan
        self._written = self._writer.write(*self._input("", ()), max_new_tokens=512)

    def line(self, number: int, slide: str, without: Items[int]) -> float:
        """Log-probability of the line of that slide."""
        span = parse_lines(self._written.text).slides[number]
        words = self._written.words(span.start, span.stop)
        sequence, tokens = self._input(slide, without)
        logprobs = self._writer.logprobs(sequence, tokens, self._written.ids)
        return float(logprobs[words].sum())

    def _input(self, slide: str, without: Items[int]) -> tuple[Sequence, ReadTokens]:
        (window,) = self._plan.windows
        shares = tuple(
            SlideShare(
                slide=s.slide,
                patches=tuple(p for p in s.patches if p not in gone),
                fine=tuple(p for p in s.fine if p not in gone),
            )
            for s in window.slides
            for gone in [set(without) if s.slide == slide else set()]
        )
        kept = Window(slides=shares, tokens=window.tokens)
        sequence = self._writer.grammar.sequence(self._plan.grids(kept), self._instruction)
        return sequence, window_tokens(self._plan, kept, self._tokens)
