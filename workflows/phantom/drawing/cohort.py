"""Draw phantom cases from seeds and write them to disk with their truth."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from workflows.phantom.drawing.layout import Focus, SlideSpec, lay_out, patches_showing
from workflows.phantom.drawing.slide import make_slide
from workflows.phantom.drawing.tissue import FIELD_MPP
from workflows.phantom.pathology import ORGANS, VERSION, Diagnosis, Organ
from workflows.phantom.seeds import Split, case_seed, slide_seed, split_of
from workflows.phantom.wording import EXTENSIVE_PATCHES, FOCAL_PATCHES, Extent, PartFinding, write_report
from wsi_pipeline.store.fingerprint import fingerprint

MAX_SLIDES = 12
BUCKETS = {"1": (1, 1), "2-5": (2, 5), "6-12": (6, MAX_SLIDES)}
"""Slides per part, as results are told."""

_SMALLEST_MM2 = 0.15
"""Less of a lesion than this would be luck to see."""
_TRIES, _USUAL_TRIES = 240, 40
"""Lesions of slides with little tissue are drawn larger after the usual tries, until they fit."""


@dataclass(frozen=True)
class PhantomPart:
    """One part of a case and its truth.

    Attributes:
        name: A, B, …; None when the case has no others.
        organ: of all its slides.
        findings: malignant first; none on a benign part.
        slides: what each slide is, in the order of the report.
        text: the report.
    """

    name: str | None
    organ: Organ
    findings: tuple[PartFinding, ...]
    slides: tuple[SlideSpec, ...]
    text: str

    @property
    def malignant(self) -> bool:
        """Whether any finding is."""
        return any(f.diagnosis.malignant for f in self.findings)

    @property
    def shown_on(self) -> tuple[int, ...]:
        """Numbers, from 1, of the slides that show any finding."""
        return tuple(sorted(n for f in self.findings for n in f.slides))


@dataclass(frozen=True)
class PhantomCase:
    """A case: its id, which is its folder's name, and its parts."""

    id: str
    parts: tuple[PhantomPart, ...]

    @property
    def fingerprint(self) -> str:
        """Of all its slides: the same seed asked for otherwise is another case."""
        return fingerprint(phantom=VERSION, slides=[asdict(spec) for part in self.parts for spec in part.slides])


def draw_case(
    seed: int,
    split: Split,
    parts: int = 1,
    slides: int | Sequence[int] | None = None,
    organ: str | None = None,
    diagnosis: str | None = None,
    extent: Extent | None = None,
    **spec: Any,
) -> PhantomCase:
    """The case of a seed. Its parts are of different organs.

    Args:
        seed: number of the case within its split, from 0.
        split: which range of seeds.
        parts: how many.
        slides: how many per part; drawn from 1 to `MAX_SLIDES` by default.
        organ, diagnosis: of the first part, drawn by default; a diagnosis that is asked for is the part's only finding.
        extent: of every finding, drawn by default.
        spec: fields of `SlideSpec` that are the same on every slide, and `lesion_mm` and `place` of every lesion.

    Raises:
        ValueError: a seed outside the split, an unknown name, or more parts than organs.
    """
    number = case_seed(seed, split)
    if not 1 <= parts <= len(ORGANS):
        raise ValueError(f"{parts} parts of different organs; there are {len(ORGANS)} organs")
    rng = np.random.default_rng([VERSION, number])
    first = None if organ is None else _named(ORGANS, organ)
    order = [ORGANS[i] for i in rng.permutation(len(ORGANS))]
    order = order if first is None else [first, *(o for o in order if o != first)]
    counts = [slides] * parts if slides is None or isinstance(slides, int) else list(slides)
    drawn = [
        _draw_part(
            np.random.default_rng([VERSION, number, k]),
            (number, k),
            name=chr(ord("A") + k) if parts > 1 else None,
            organ=order[k],
            slides=counts[k],
            diagnosis=diagnosis if k == 0 else None,
            extent=extent,
            spec=spec,
        )
        for k in range(parts)
    ]
    suffix = f"-{parts}parts" if parts > 1 else ""
    return PhantomCase(f"phantom-{split}-{seed:05d}{suffix}", tuple(drawn))


def _draw_part(
    rng: np.random.Generator,
    seed: tuple[int, int],
    *,
    name: str | None,
    organ: Organ,
    slides: int | None,
    diagnosis: str | None,
    extent: Extent | None,
    spec: dict[str, Any],
) -> PhantomPart:
    count = slides or int(rng.integers(1, MAX_SLIDES + 1))
    found = draw_findings(rng, organ, count, _named(organ.diagnoses, diagnosis) if diagnosis else None, extent)
    shown = {n: finding for finding in found for n in finding.slides}
    specs = tuple(
        draw_slide(slide_seed(*seed, n - 1), organ, shown[n].diagnosis if n in shown else None,
                   shown[n].extent if n in shown else "focal", **spec)
        for n in range(1, count + 1)
    )  # fmt: skip
    return PhantomPart(name, organ, found, specs, write_report(organ, count, found))


def draw_findings(
    rng: np.random.Generator,
    organ: Organ,
    slides: int,
    diagnosis: Diagnosis | None = None,
    extent: Extent | None = None,
) -> tuple[PartFinding, ...]:
    """What a part of so many slides shows: nothing (one in four), one finding, or two on different slides.

    A focal finding lies on one slide, an extensive one on up to three. With a `diagnosis` it is the only one.
    """
    if diagnosis == organ.benign or (diagnosis is None and rng.random() < 0.25):
        return ()
    several = diagnosis is None and slides > 1 and rng.random() < 0.3
    picked = (
        [diagnosis] if diagnosis else [organ.lesions[i] for i in rng.permutation(len(organ.lesions))[: 1 + several]]
    )
    picked.sort(key=lambda d: (not d.malignant, organ.diagnoses.index(d)))
    free = [int(n) for n in rng.permutation(slides) + 1]
    found = []
    for place, lesion in enumerate(picked, 1):
        size: Extent = extent or ("focal" if rng.random() < 0.5 else "extensive")
        most = min(1 if size == "focal" else 3, len(free) - (len(picked) - place))
        showing = sorted(free.pop() for _ in range(int(rng.integers(1, most + 1))))
        found.append(PartFinding(lesion, tuple(showing), size))
    return tuple(found)


def draw_slide(
    seed: int,
    organ: Organ,
    diagnosis: Diagnosis | None = None,
    extent: Extent = "focal",
    lesion_mm: float | None = None,
    place: tuple[float, float] | None = None,
    **spec: Any,
) -> SlideSpec:
    """A slide that shows `diagnosis`, or nothing, with size, lesion, resolution and file layout drawn from its seed.

    Lesions are drawn until they fit their extent in patches; one whose size is asked for is taken as it falls.
    """
    rng = np.random.default_rng([VERSION, seed, 9])
    mpp, factors = [(1.0, (4,)), (1.0, ()), (0.5, (4,))][rng.choice(3, p=[0.65, 0.25, 0.1])]
    drawn: dict[str, Any] = {
        "width_mm": round(float(rng.uniform(2.4, 3.8)), 2),
        "height_mm": round(float(rng.uniform(2.0, 3.0)), 2),
        "mpp": mpp,
        "factors": factors,
        "tile": int(rng.choice([240, 256, 512])),
        "quality": int(rng.integers(75, 93)),
        "layout": "svs" if rng.random() < 0.8 else "tiff",
    }
    bare = SlideSpec(seed=seed, organ=organ.name, **(drawn | spec))
    if diagnosis is None or diagnosis == organ.benign:
        return bare
    for attempt in range(_TRIES):
        made = replace(bare, foci=_draw_foci(rng, diagnosis, extent, attempt, lesion_mm, place))
        if lesion_mm is not None or _fits(made, extent):
            return made
    raise ValueError(f"slide seed {seed}: no {extent} lesion fits {bare.width_mm} × {bare.height_mm} mm of {organ}")


def _draw_foci(
    rng: np.random.Generator,
    diagnosis: Diagnosis,
    extent: Extent,
    attempt: int,
    mm: float | None,
    place: tuple[float, float] | None,
) -> tuple[Focus, ...]:
    low, high = (0.5, 0.75) if extent == "focal" else (0.9, 1.6)
    high += 0.02 * max(0, attempt - _USUAL_TRIES)
    count = 1 if extent == "focal" or mm is not None else int(rng.integers(1, 4))
    return tuple(
        Focus(diagnosis.text, mm or round(float(rng.uniform(low, high)), 2), place if k == 0 else None, 8 * attempt + k)
        for k in range(count)
    )


def _fits(spec: SlideSpec, extent: Extent) -> bool:
    layout = lay_out(spec)
    patches = patches_showing(layout)
    if extent == "extensive":
        return patches >= EXTENSIVE_PATCHES
    return 1 <= patches <= FOCAL_PATCHES and (layout.lesion > 0).sum() * (FIELD_MPP / 1000) ** 2 >= _SMALLEST_MM2


def write_cases(root: Path, cases: Iterable[PhantomCase]) -> list[Path]:
    """Write slides, a manifest and the truth of `cases` below `root`; return the case folders.

    `manifest.csv` names every slide; `truth.json` holds specs and report texts. Slides that exist are kept.
    """
    rows, truth, folders = [], [], []
    for case in cases:
        folders.append(root / case.id)
        for part in case.parts:
            folder = root / case.id / (part.name or "")
            folder.mkdir(parents=True, exist_ok=True)
            names = [slide_name(spec, n) for n, spec in enumerate(part.slides, 1)]
            for name, spec in zip(names, part.slides, strict=True):
                if not (folder / name).exists():
                    partial = folder / f".{name}.partial"
                    make_slide(partial, spec)
                    partial.rename(folder / name)
                slide = (folder / name).relative_to(root).as_posix()
                rows.append({"case_id": case.id, "slide": slide, "part": part.name or ""})
            truth.append({"case": case.id, "split": split_of(part.slides[0].seed), **_truth(part, names)})
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["case_id", "slide", "part"])
        table.writeheader()
        table.writerows(rows)
    (root / "truth.json").write_text(json.dumps({"phantom": VERSION, "parts": truth}, indent=1) + "\n")
    return folders


def _truth(part: PhantomPart, names: Sequence[str]) -> dict[str, Any]:
    return {
        "part": part.name,
        "organ": part.organ.name,
        "malignant": part.malignant,
        "findings": [{"diagnosis": f.diagnosis.text, "extent": f.extent, "slides": f.slides} for f in part.findings],
        "slides": [{"file": name} | asdict(spec) for name, spec in zip(names, part.slides, strict=True)],
        "report": part.text,
    }


def slide_name(spec: SlideSpec, number: int) -> str:
    """`S03.svs`"""
    return f"S{number:02d}.{'svs' if spec.layout == 'svs' else 'tif'}"


T = TypeVar("T", Organ, Diagnosis)


def _named(items: Sequence[T], name: str) -> T:
    for item in items:
        if str(item).casefold() == name.casefold():
            return item
    raise ValueError(f"{name!r} is unknown; there are: {', '.join(map(str, items))}")
