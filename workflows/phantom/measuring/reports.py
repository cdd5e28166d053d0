"""Measure the whole instrument on fresh phantom cases, beside readers that see less.

Every case goes from slide files through `run` to its report. The other readers draft from the patches and tokens of
that run: what they lack is slides, patches or resolution, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from reporters.answers import PartDraft
from reporters.draft import draft_part
from workflows.checkpoints import Model
from workflows.phantom.drawing.cohort import BUCKETS, PhantomCase, PhantomPart, draw_case
from workflows.phantom.measuring.processes import single_core_processes
from workflows.phantom.measuring.reading import ReadCase, read_case, written_case
from workflows.phantom.measuring.said import said_in_draft, said_in_earlier_draft, said_in_report
from workflows.phantom.measuring.scoring import NOTHING, Said, Score, all_benign, score
from workflows.phantom.measuring.shortcuts import Shortcut, said_by
from workflows.phantom.seeds import require
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ModelSettings, RunSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore

WHOLE = "all slides"
WHOLE_BESIDE = "all slides, the same"
"""On those parts that the readers who see less read, too."""
ONE_SLIDE = "one random slide"
ONE_126 = "126 patches of one slide"
SHARED_126 = "126 patches shared"
TENTH = "a tenth of patches, shared"
ALL_BENIGN = "benign, always"
"""Told the organ and looks at nothing: what is exact by chance."""
THUMBNAIL = "thumbnails"
EARLIER = "first checkpoint"
MEDGEMMA_PATCHES = 126
"""What MedGemma 1.5 reads of a slide."""


@dataclass(frozen=True)
class Readers:
    """Who reads.

    Attributes:
        model: checkpoint of the run and of the rows that see less.
        earlier: another checkpoint; None for none.
        thumbnail: a classifier of overviews; None for none.
    """

    model: str = "phantom"
    earlier: str | None = None
    thumbnail: Shortcut | None = None

    @property
    def rows(self) -> tuple[str, ...]:
        """Those that see less, and the whole case beside them."""
        others = ((THUMBNAIL, self.thumbnail), (EARLIER, self.earlier))
        return (WHOLE_BESIDE, ONE_SLIDE, ONE_126, SHARED_126, TENTH, *(row for row, given in others if given))


def draw_cohort(seed: int, parts: int) -> list[PhantomCase]:
    """Cases of one to three parts, from test seed `seed` on, until every bucket holds at least `parts` parts."""
    cases: list[PhantomCase] = []
    missing = dict.fromkeys(BUCKETS, parts)
    rng = np.random.default_rng([seed, 11])
    while any(n > 0 for n in missing.values()):
        buckets = list(rng.permutation([b for b, n in missing.items() if n > 0])[: int(rng.integers(1, 4))])
        slides = [int(rng.integers(BUCKETS[b][0], BUCKETS[b][1] + 1)) for b in buckets]
        cases.append(draw_case(seed + len(cases), "test", parts=len(buckets), slides=slides))
        for bucket in buckets:
            missing[bucket] -= 1
    return cases


def measure(
    work: Path,
    cases: Sequence[PhantomCase],
    readers: Readers,
    workers: int = 2,
    compared: int | None = None,
    keep: bool = False,
) -> Iterator[list[Score]]:
    """Make, run and score cases; a list of scores per case.

    Args:
        work: folder for slides and results.
        cases: of the test split.
        readers: rows of the table.
        workers: processes.
        compared: how many cases the readers that see less read, too; None for all.
        keep: slides and stores, for another model to read (some 7 MB per slide); else each case is deleted once scored.

    Raises:
        ValueError: a slide that a model may have been tuned on.
    """
    require("test", (spec.seed for case in cases for part in case.parts for spec in part.slides))
    with single_core_processes(workers) as pool:
        beside = [readers if compared is None or n < compared else None for n in range(len(cases))]
        every = len(cases)
        yield from pool.map(_measure_one, [work] * every, cases, [readers.model] * every, beside, [keep] * every)


@lru_cache(maxsize=2)
def _loaded(name: str) -> Model:
    return Model(ModelSettings(name=name))


def _measure_one(work: Path, truth: PhantomCase, model: str, beside: Readers | None, keep: bool) -> list[Score]:
    benign = [score(ALL_BENIGN, all_benign(part.organ), part) for part in truth.parts]
    with written_case(work, truth, keep) as folder:
        read = read_case(folder, RunSettings(model=ModelSettings(name=model)))
        if read.report is None:
            rows = (WHOLE, *(beside.rows if beside else ()))
            return [*(score(row, NOTHING, part) for part in truth.parts for row in rows), *benign]
        scores = []
        for part, drafted, true in zip(read.case.parts, read.report.parts, truth.parts, strict=True):
            scores.append(score(WHOLE, said_in_report(drafted, [s.id for s in part.slides]), true))
            if beside:
                scores.append(replace(scores[-1], reader=WHOLE_BESIDE))
                scores += _others(read, part, true, beside, folder)
        return [*scores, *benign]


def _others(case: ReadCase, part: Part, truth: PhantomPart, readers: Readers, folder: Path) -> list[Score]:
    """The rows beside the whole case, for one part."""
    stores, tokens = case.stores(part)
    names = [s.id for s in part.slides]
    picked = names[int(np.random.default_rng([truth.slides[0].seed, 13]).integers(len(names)))]
    patches = sum(map(len, stores.values()))
    model = _loaded(readers.model)

    def read(slides: Sequence[str], most: int | None) -> Said:
        used = {s: stores[s] for s in slides if s in tokens}
        return said_in_draft(_draft(model, part, used, tokens, most), names)

    said = {
        ONE_SLIDE: read([picked], None),
        ONE_126: read([picked], MEDGEMMA_PATCHES),
        SHARED_126: read(names, MEDGEMMA_PATCHES),
        TENTH: read(names, -(-patches // 10)),
    }
    if readers.thumbnail:
        said[THUMBNAIL] = said_by(readers.thumbnail, truth.organ, [stores[n] for n in names])
    if readers.earlier:
        said[EARLIER] = _by_earlier(readers.earlier, part, stores, folder / "earlier", names)
    return [score(reader, reading, truth) for reader, reading in said.items()]


def _draft(
    model: Model, part: Part, stores: Mapping[str, PatchStore], tokens: Mapping[str, TokenStore], most: int | None
) -> PartDraft:
    settings = RunSettings()
    settings = settings.model_copy(update={"report": settings.report.model_copy(update={"max_patches": most})})
    counts = {slide: len(store) for slide, store in stores.items() if len(store)}
    if not counts:
        return PartDraft(no_diagnosis="nothing to read")
    plan = model.plan(part, counts, settings)
    return draft_part(part, plan, model.writer, stores, tokens, settings.report)


def _by_earlier(name: str, part: Part, stores: Mapping[str, PatchStore], folder: Path, names: Sequence[str]) -> Said:
    """What another checkpoint says."""
    model = _loaded(name)
    tokens = {}
    for slide, store in stores.items():
        if len(store):
            place = folder / f"{slide}-{model.revision}.zarr"
            model.encoder.encode(store, "earlier", 4, place)
            tokens[slide] = TokenStore(place)
    return said_in_earlier_draft(_draft(model, part, {s: stores[s] for s in tokens}, tokens, None), names)


def save(scores: Sequence[Score], path: Path) -> None:
    """All scores as JSON lines, to be looked at again."""
    path.write_text("".join(json.dumps(vars(s)) + "\n" for s in scores))
