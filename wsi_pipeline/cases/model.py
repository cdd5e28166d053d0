"""Case, Part, Slide: what is reported together, what is diagnosed, what is read."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wsi_pipeline.cases.location import Location
from wsi_pipeline.errors import UsageError

_HE = re.compile(
    r"(h\W*(and|und|et)?\W*(e\.?s?|p\.?s)|h(a|ä|ae)?e?matox[yi]lin\w*\W+(\w+\W+)?(eosin|phloxin|saffron)\w*(\W+saffron\w*)?)"
    r"([\W\d]|stain\w*|slides?|sections?|levels?|deeper|(re)?cuts?|repeat|frozen|ffpe|routine|initial|original)*"
    r"|unknown|not stated|n/?a|\?|",
    re.IGNORECASE,
)
"""Haematoxylin with eosin or phloxine, and words that name no other stain; or that nobody knows."""


@dataclass(frozen=True)
class Slide:
    """One whole-slide image.

    Attributes:
        id: `<stem>-<6 hex of its path within the case>`; unique in the case and safe as a folder name.
        path: the file, the folder of a DICOM slide, or a URL.
        part: name of the specimen part; None when nobody said.
        stain: as the manifest says; None is taken for H&E, and said so.
        mpp: µm per pixel of level 0 as the manifest says.
        missing: the manifest names it and it is not there.
        mask: where tissue is, drawn by someone else: GeoJSON or PNG; None finds it from colours.
    """

    id: str
    path: Location
    part: str | None = None
    stain: str | None = None
    mpp: float | None = None
    missing: bool = False
    mask: Location | None = None

    @property
    def is_he(self) -> bool:
        """Whether the slide enters generation: H&E, or of unknown stain."""
        return self.stain is None or bool(_HE.fullmatch(self.stain.strip()))


@dataclass(frozen=True)
class Part:
    """One specimen part: the unit that is diagnosed. `name` is None when slides carry no part."""

    name: str | None
    slides: tuple[Slide, ...]
    tissue: str | None = None
    procedure: str | None = None
    context: str | None = None

    @property
    def title(self) -> str:
        """How a report calls it."""
        return f"Part {self.name}" if self.name else "Part unassigned"


@dataclass(frozen=True)
class Case:
    """Everything reported together."""

    id: str
    parts: tuple[Part, ...]

    @property
    def slides(self) -> tuple[Slide, ...]:
        """All slides, in report order."""
        return tuple(slide for part in self.parts for slide in part.slides)


@dataclass(frozen=True)
class SlideEntry:
    """What a layout or a manifest row says of one slide, before ids are given."""

    path: Location
    relative: str
    part: str | None = None
    stain: str | None = None
    mpp: float | None = None
    tissue: str | None = None
    procedure: str | None = None
    context: str | None = None
    missing: bool = False
    mask: Location | None = None


_UNSAFE = re.compile(r"[^\w.\- ()+=,@]", re.UNICODE)
_MAX_NAME = 96


def safe_name(text: str, what: str) -> str:
    """A single folder name for `text`, or a refusal: an id never escapes OUT.

    Raises:
        UsageError: the text is empty, `.`/`..`, hidden, or contains a path separator or control character.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name or name.startswith(".") or _UNSAFE.search(name) or len(os.fsencode(name)) > _MAX_NAME:
        raise UsageError(
            f"{what} {text!r}",
            "cannot be a folder name (no slashes, no leading dot, no control characters, at most 96 bytes)",
            "rename it, or give another id in a manifest (--manifest)",
        )
    return name


def slide_id(path: Location, relative: str) -> str:
    """`<stem>-<6 hex>`: equal stems in different folders stay apart."""
    stem = _UNSAFE.sub("_", unicodedata.normalize("NFC", path.stem)).strip().lstrip(".") or "slide"
    while len(stem.encode()) > _MAX_NAME - 7:
        stem = stem[:-1]
    digest = hashlib.sha256(unicodedata.normalize("NFC", relative).encode(errors="surrogateescape")).hexdigest()[:6]
    return f"{stem}-{digest}"


def make_case(case_id: str, entries: Iterable[SlideEntry]) -> Case:
    """Give ids and group slides by part; parts and slides in natural order.

    Raises:
        UsageError: an unsafe id, no slides, or one part described in two ways.
    """
    name = safe_name(case_id, "case id")
    by_part: dict[str | None, list[SlideEntry]] = {}
    for entry in entries:
        by_part.setdefault(entry.part, []).append(entry)
    if not by_part:
        raise UsageError(f"case {name!r}", "has no slides", "check the folder or the manifest")
    order = sorted(by_part, key=lambda part: (part is None, natural_key(part or "")))
    return Case(name, tuple(_make_part(name, part, by_part[part]) for part in order))


def _make_part(case_id: str, name: str | None, entries: Sequence[SlideEntry]) -> Part:
    slides = [
        Slide(slide_id(e.path, e.relative), e.path, name, e.stain, e.mpp, e.missing, e.mask)
        for e in sorted(entries, key=lambda e: natural_key(e.relative))
    ]
    described = {}
    for key in ("tissue", "procedure", "context"):
        values = {v for e in entries if (v := getattr(e, key))}
        if len(values) > 1:
            raise UsageError(
                f"case {case_id!r}, part {name or 'unassigned'}",
                f"has {len(values)} different values of {key}",
                "say it once, or the same in every row of the part",
            )
        described[key] = values.pop() if values else None
    return Part(name, tuple(slides), **described)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `S2` before `S10`."""
    return tuple(
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.casefold())
        for piece in re.split(r"(\d+)", text)
        if piece
    )
