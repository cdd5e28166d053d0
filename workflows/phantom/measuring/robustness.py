"""Whether the same case gets the same words when its slides are handled differently.

The nuclei of a phantom are drawn for its resolution: a rescan at 40X has others at other places, as a neighbouring
section would.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tifffile

from workflows.phantom.drawing.cohort import MAX_SLIDES, PhantomPart, draw_case
from workflows.phantom.drawing.layout import SlideSpec
from workflows.phantom.drawing.slide import make_slide, write_slide
from workflows.phantom.measuring.processes import single_core_processes
from workflows.phantom.measuring.reading import read_case
from workflows.phantom.measuring.said import said_in_report
from workflows.phantom.measuring.scoring import NOTHING, Said
from wsi_pipeline.settings import ModelSettings, RunSettings


@dataclass(frozen=True)
class Handling:
    """One way to handle the slides of a case.

    Attributes:
        name: as results are told.
        names: file name of the slide of that place, without suffix; their order is the order of the report.
        reverse: slides come in the opposite order.
        scanned: fields of `SlideSpec` that differ.
        quality: of JPEG that the finished files are compressed with once more; None for not at all.
    """

    name: str
    names: str = "S{:02d}"
    reverse: bool = False
    scanned: tuple[tuple[str, object], ...] = ()
    quality: int | None = None


AS_MADE = Handling("as made")
HANDLINGS = (
    Handling("renamed", names="B22-1047 {:02d} HE"),
    Handling("reordered", reverse=True),
    Handling("rescanned at 40X", scanned=(("mpp", 0.25), ("factors", (4, 16)))),
    Handling("JPEG again, quality 60", quality=60),
    Handling("shifted by 5 µm", scanned=(("shift_um", 5.0),)),
)


def measure_robustness(
    work: Path,
    seed: int,
    parts: int,
    model: str = "phantom",
    workers: int = 2,
    handlings: Sequence[Handling] = HANDLINGS,
) -> Iterator[dict[str, bool]]:
    """Per part, whether each handling gets the words, extents and slides that the slides as made get, line by line.

    Args:
        work: folder for slides and results; each is deleted once read.
        seed: first test seed.
        parts: how many, of one to twelve slides in turns.
        model: checkpoint.
        workers: processes.
        handlings: which.
    """
    drawn = [draw_case(seed + n, "test", slides=1 + n % MAX_SLIDES).parts[0] for n in range(parts)]
    with single_core_processes(workers) as pool:
        yield from pool.map(_compare, [work] * parts, range(parts), drawn, [model] * parts, [handlings] * parts)


def _compare(work: Path, number: int, part: PhantomPart, model: str, handlings: Sequence[Handling]) -> dict[str, bool]:
    usual = _read(work / f"{number}", part, AS_MADE, model)
    # to say nothing twice is no agreement
    return {h.name: _read(work / f"{number}", part, h, model) == usual and bool(usual.findings) for h in handlings}


def _read(folder: Path, part: PhantomPart, handling: Handling, model: str) -> Said:
    """What the report says; slides are numbered as in `part`, whatever their order."""
    order = list(range(len(part.slides)))[:: -1 if handling.reverse else 1]
    slides = folder / "slides" / "case"
    slides.mkdir(parents=True)
    for place, number in enumerate(order, 1):
        spec: SlideSpec = replace(part.slides[number], **dict(handling.scanned))  # type: ignore[arg-type]
        suffix = "svs" if spec.layout == "svs" else "tif"
        file = slides / f"{handling.names.format(place)}.{suffix}"
        make_slide(file, spec)
        if handling.quality:
            write_slide(file, replace(spec, quality=handling.quality), tifffile.imread(file, key=0))
    read = read_case(folder, RunSettings(model=ModelSettings(name=model)))
    said = NOTHING
    if read.report:
        said = _renumbered(said_in_report(read.report.parts[0], [s.id for s in read.case.slides]), order)
    shutil.rmtree(folder)
    return said


def _renumbered(said: Said, order: Sequence[int]) -> Said:
    findings = [(text, extent, tuple(sorted(order[n - 1] + 1 for n in shown))) for text, extent, shown in said.findings]
    lines = tuple(said.lines[order.index(slide)] for slide in range(len(order)))
    return replace(said, findings=tuple(sorted(findings)), lines=lines)
