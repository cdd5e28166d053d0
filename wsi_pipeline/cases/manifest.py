"""A CSV manifest becomes cases: the laboratory's own word on what belongs together."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from wsi_pipeline.cases.location import Location, located
from wsi_pipeline.cases.model import Case, SlideEntry, make_case
from wsi_pipeline.errors import UsageError

REQUIRED = ("case_id", "slide")
OPTIONAL = ("part", "stain", "mpp", "tissue", "procedure", "context", "mask")


def read_manifest(path: Path, root: Location | None = None) -> list[Case]:
    """Read cases from a CSV with the columns `case_id, slide` and any of `OPTIONAL`.

    Paths of slides and masks are relative to `root`, or to the manifest's folder; each may be a URL. A file that is
    not there becomes a slide marked missing: its case is reported as incomplete, the others are not held up.

    Raises:
        UsageError: unknown or missing columns, no rows, a slide named twice, an unusable value.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, list(reader.fieldnames or []))
            rows = [(reader.line_num, row) for row in reader if any(text and text.strip() for text in _texts(row))]
    except OSError as error:
        raise UsageError(path, f"cannot be read ({error.strerror})", "check the path given to --manifest") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(path, f"is not a CSV in UTF-8 ({error})", "save it as CSV UTF-8") from None
    if not rows:
        raise UsageError(path, "has no rows", "one row per slide: case_id,slide")
    cases: dict[str, list[SlideEntry]] = {}
    seen: dict[Location, int] = {}
    for line, row in rows:
        case_id, entry = _entry(path, line, row, root or path.parent)
        if (first := seen.setdefault(_resolved(entry.path, line, path), line)) != line:
            raise UsageError(
                f"{path}, line {line}",
                f"names the same slide as line {first}: {entry.relative}",
                "delete one row",
            )
        cases.setdefault(case_id, []).append(entry)
    return [make_case(case_id, entries) for case_id, entries in cases.items()]


def _texts(row: dict[str, Any]) -> list[str]:
    """All fields, those beyond the header's last included."""
    return [text for value in row.values() for text in (value if isinstance(value, list) else [value]) if text]


def _resolved(file: Location, line: int, manifest: Path) -> Location:
    if not isinstance(file, Path):
        return file
    try:
        return file.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{manifest}, line {line}", f"slide is no usable path ({error})", "correct it") from None


def _check_columns(path: Path, columns: list[str]) -> None:
    missing = [c for c in REQUIRED if c not in columns]
    unknown = [c for c in columns if c not in REQUIRED + OPTIONAL]
    twice = sorted({c for c in columns if columns.count(c) > 1})
    for names, cause in ((missing, "lacks"), (unknown, "has unknown"), (twice, "repeats")):
        if names:
            raise UsageError(
                path,
                f"{cause} column(s) {', '.join(map(repr, names))}",
                f"columns are {', '.join(REQUIRED)} and optionally {', '.join(OPTIONAL)}",
            )


def _entry(path: Path, line: int, row: dict[str, str], root: Location) -> tuple[str, SlideEntry]:
    where = f"{path}, line {line}"
    if None in row or None in row.values():
        raise UsageError(where, "has more or fewer fields than the header", "quote fields that contain commas")
    value = {key: text.strip() or None for key, text in row.items()}
    case_id, slide = value["case_id"], value["slide"]
    if not case_id or not slide:
        raise UsageError(where, "case_id or slide is empty", "fill both")
    file, mask = located(slide, root), value.get("mask")
    return case_id, SlideEntry(
        path=file,
        relative=slide,
        part=value.get("part"),
        stain=value.get("stain"),
        mpp=_mpp(where, value.get("mpp")),
        tissue=value.get("tissue"),
        procedure=value.get("procedure"),
        context=value.get("context"),
        missing=not _exists(file),
        mask=located(mask, root) if mask else None,
    )


def _exists(file: Location) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):
        return False


def _mpp(where: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        mpp = float(text)
    except ValueError:
        mpp = -1.0
    if not 0.01 <= mpp <= 100:
        raise UsageError(where, f"mpp {text!r} is no resolution in µm per pixel", "write a number such as 0.25")
    return mpp
