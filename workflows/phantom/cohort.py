"""Draw phantom cases from seeds and write them to disk with their truth.

Seeds come in disjoint ranges, one per purpose, so that no slide a model was tuned on can be in a test.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from workflows.phantom.pathology import ORGANS, VERSION, Diagnosis, Organ, write_report
from workflows.phantom.slide import SlideSpec, make_slide

Split = Literal["train", "calibration", "test", "demo"]

SEEDS: dict[Split, range] = {
    "train": range(0, 1_000_000),
    "calibration": range(1_000_000, 2_000_000),
    "test": range(2_000_000, 3_000_000),
    "demo": range(3_000_000, 3_001_000),
}
"""Case seeds by purpose. A case's slides draw from its seed, so the ranges keep slides apart too."""

MAX_SLIDES = 12


@dataclass(frozen=True)
class PhantomCase:
    """One part of a case, usually its only one, and its truth.

    Attributes:
        id: folder and case name.
        slides: what each slide is, in the order of the report.
        lesion_on: whether slide i + 1 shows the lesion.
        text: the report.
        part: its name; None when the case has no others.
    """

    id: str
    organ: Organ
    diagnosis: Diagnosis
    slides: tuple[SlideSpec, ...]
    lesion_on: tuple[bool, ...]
    text: str
    part: str | None = None


def draw_case(
    seed: int,
    split: Split,
    slides: int | None = None,
    organ: str | None = None,
    diagnosis: str | None = None,
    **spec: object,
) -> PhantomCase:
    """The case of a seed.

    Args:
        seed: number of the case within its split, from 0.
        split: which range of seeds.
        slides: how many slides; drawn from 1 to `MAX_SLIDES` by default.
        organ, diagnosis: names, drawn by default.
        spec: fields of `SlideSpec` that are the same on every slide.

    Raises:
        ValueError: a seed outside the split, or an unknown name.
    """
    if not 0 <= seed < len(SEEDS[split]):
        raise ValueError(f"seed {seed} is outside the {split} range of {len(SEEDS[split])} seeds")
    number = SEEDS[split][seed]
    rng = np.random.default_rng([VERSION, number])
    count = slides or int(rng.integers(1, MAX_SLIDES + 1))
    drawn = _pick(ORGANS, organ, rng)
    found = _pick(drawn.diagnoses, diagnosis, rng)
    lesion_on = np.zeros(count, bool)
    if found is not drawn.benign:
        showing = int(rng.integers(1, min(3, count) + 1))
        lesion_on[rng.choice(count, showing, replace=False)] = True
    specs = tuple(
        draw_slide(number * 64 + k, drawn, found if lesion_on[k] else drawn.benign, **spec) for k in range(count)
    )
    shown = tuple(bool(v) for v in lesion_on)
    text = write_report(drawn, found, shown)
    return PhantomCase(f"phantom-{split}-{seed:05d}", drawn, found, specs, shown, text)


def draw_parts(seed: int, split: Split, parts: int, **fixed: Any) -> list[PhantomCase]:
    """A case of several parts A, B, …: each is drawn like a case of its own, from seeds that follow each other."""
    drawn = [draw_case(seed * parts + k, split, **fixed) for k in range(parts)]
    if parts == 1:
        return drawn
    name = f"phantom-{split}-{seed:05d}-{parts}parts"
    return [replace(case, id=name, part=chr(ord("A") + k)) for k, case in enumerate(drawn)]


def draw_slide(seed: int, organ: Organ, diagnosis: Diagnosis, **spec: object) -> SlideSpec:
    """A slide of that diagnosis with size, lesion, resolution and file layout drawn from its seed."""
    rng = np.random.default_rng([VERSION, seed, 9])
    mpp, factors = [(1.0, (4,)), (1.0, ()), (0.5, (4,))][rng.choice(3, p=[0.6, 0.25, 0.15])]
    drawn = {
        "width_mm": round(float(rng.uniform(2.4, 3.8)), 2),
        "height_mm": round(float(rng.uniform(2.0, 3.0)), 2),
        "lesion_mm": round(float(rng.uniform(0.8, 1.9)), 2),
        "foci": int(rng.integers(1, 3)),
        "mpp": mpp,
        "factors": factors,
        "tile": int(rng.choice([240, 256, 512])) // 16 * 16,
        "quality": int(rng.integers(75, 93)),
        "layout": "svs" if rng.random() < 0.8 else "tiff",
    }
    return SlideSpec(seed=seed, organ=organ.name, diagnosis=diagnosis.text, **(drawn | spec))  # type: ignore[arg-type]


def write_cases(root: Path, cases: Iterable[PhantomCase]) -> list[Path]:
    """Write slides, a manifest and the truth of `cases` below `root`; return the case folders.

    `manifest.csv` names every slide; `truth.json` holds specs and report texts. Slides that exist are kept.
    """
    rows, truth, folders = [], [], []
    for case in cases:
        folder = root / case.id / (case.part or "")
        folder.mkdir(parents=True, exist_ok=True)
        folders.append(folder)
        names = [slide_name(spec, n) for n, spec in enumerate(case.slides, 1)]
        for name, spec in zip(names, case.slides, strict=True):
            if not (folder / name).exists():
                partial = folder / f".{name}.partial"
                make_slide(partial, spec)
                partial.rename(folder / name)
            slide = (folder / name).relative_to(root).as_posix()
            rows.append({"case_id": case.id, "slide": slide, "part": case.part or ""})
        truth.append(
            {
                "case": case.id,
                "part": case.part,
                "organ": case.organ.name,
                "diagnosis": case.diagnosis.text,
                "malignant": case.diagnosis.malignant,
                "slides": [
                    {"file": name, "lesion": shown, **asdict(spec)}
                    for name, shown, spec in zip(names, case.lesion_on, case.slides, strict=True)
                ],
                "report": case.text,
            }
        )
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["case_id", "slide", "part"])
        table.writeheader()
        table.writerows(rows)
    (root / "truth.json").write_text(json.dumps({"phantom": VERSION, "cases": truth}, indent=1) + "\n")
    return folders


def slide_name(spec: SlideSpec, number: int) -> str:
    """`S03.svs`"""
    return f"S{number:02d}.{'svs' if spec.layout == 'svs' else 'tif'}"


T = TypeVar("T", Organ, Diagnosis)


def _pick(items: Sequence[T], name: str | None, rng: np.random.Generator) -> T:
    if name is None:
        return items[int(rng.integers(len(items)))]
    for item in items:
        if str(item).casefold() == name.casefold():
            return item
    raise ValueError(f"{name!r} is unknown; there are: {', '.join(map(str, items))}")
