"""A folder tree becomes cases: by sub-folders, slide by slide, or by names; never by guessing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from wsi_pipeline.cases.files import PICTURE_SUFFIXES, is_sidecar, is_slide_file, slides_in
from wsi_pipeline.cases.location import Location
from wsi_pipeline.cases.model import Case, SlideEntry, make_case, natural_key
from wsi_pipeline.errors import UsageError
from wsi_pipeline.events import emit

Layout = Literal["folders", "flat"]

_SYSTEM = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir"})
"""Folders that file systems and servers put beside anything."""
_UNFINISHED = frozenset({"", ".part", ".partial", ".filepart", ".crdownload", ".tmp"})
"""Suffixes of what may become a slide: files that are being copied, and DICOM without its own."""


def discover(root: Location, layout: Layout | None = None, id_pattern: str | None = None) -> list[Case]:
    """Find the cases under `root`.

    Args:
        root: a folder, or a single slide or its URL (one case).
        layout: `folders` (a folder per case, its sub-folders are parts), `flat` (each slide a case), or
            None, which takes `folders` for a tree where all slides lie in sub-folders and refuses others.
        id_pattern: regular expression with named groups `case` and optionally `part`, `slide`, searched
            in each slide's path below `root`; replaces the layout.

    Raises:
        UsageError: the tree does not fit, naming what was seen.
    """
    if not root.exists():
        raise UsageError(root, "does not exist", "give a folder of slides, one slide, or --manifest CSV")
    if not isinstance(root, Path) or root.is_file():
        if not is_slide_file(root) and root.suffix.lower() not in PICTURE_SUFFIXES:
            raise UsageError(root, "is not a slide file by its name", "give a slide, a folder, or --manifest CSV")
        return [make_case(root.stem, [_entry(root, root.name)])]
    slides = sorted(_walk(root, frozenset()), key=lambda p: natural_key(p.relative_to(root).as_posix()))
    if not slides:
        raise UsageError(root, "holds no slides", "check the path; `wsi-pipeline inspect FILE` tells about one file")
    if slides == [root]:
        return [make_case(root.name, [_entry(root, root.name)])]
    if id_pattern is not None:
        return _by_pattern(root, slides, id_pattern)
    if layout == "flat":
        return _flat(root, slides)
    return _folders(root, slides)


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Slides in and below a folder; a link back to a folder `above` it is not followed."""
    stat = folder.stat()
    if (me := (stat.st_dev, stat.st_ino)) in above:
        return
    yield from slides_in(folder)
    for child in _subfolders(folder):
        try:
            yield from _walk(child, above | {me})
        except UsageError:
            yield child  # a slide that fails: what nobody may list stops none of the others, and is not forgotten


def _subfolders(folder: Path) -> list[Path]:
    """Those in which slides may lie."""
    return [
        child
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".") and child.name not in _SYSTEM and not is_sidecar(child)
    ]


def _folders(root: Path, slides: list[Path]) -> list[Case]:
    cases: dict[str, list[SlideEntry]] = {}
    for slide in slides:
        steps = slide.relative_to(root).parts
        if not steps or (len(steps) == 1 and not slide.is_dir()):
            direct = sum(s == root or (s.parent == root and not s.is_dir()) for s in slides)
            kinds = f"{direct} of {len(slides)} slides"
            raise UsageError(
                root,
                f"{kinds} lie directly in it, so folders do not say which case they belong to",
                "--layout flat (each slide a case), --id-pattern REGEX (case in the file name), or --manifest CSV",
            )
        if len(steps) > 3:
            raise UsageError(
                root,
                f"{'/'.join(steps)} lies {len(steps) - 1} folders deep; case/part/slide is the deepest layout",
                "give the folder one level down, --id-pattern REGEX, or --manifest CSV",
            )
        part = steps[1] if len(steps) == 3 else None
        # a case folder that is one DICOM series is a case of one slide
        relative = "/".join(steps[1:]) or steps[0]
        cases.setdefault(steps[0], []).append(_entry(slide, relative, part))
    for child in _subfolders(root):
        if child.name not in cases:
            emit("find.empty", folder=child.name)
            continue
        parts = {entry.part for entry in cases[child.name]} - {None}
        for folder in _subfolders(child) if parts else ():
            if folder.name not in parts and folder not in slides and _may_become_slides(folder):
                cases[child.name].append(_entry(folder, folder.name, folder.name))
    return [make_case(name, entries) for name, entries in cases.items()]


def _may_become_slides(folder: Path) -> bool:
    """Whether a folder beside parts looks like one whose copying failed: the case is not complete without it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return all(path.suffix.lower() in _UNFINISHED for path in files)


def _flat(root: Path, slides: list[Path]) -> list[Case]:
    taken: dict[str, Path] = {}
    for slide in slides:
        name = slide.name if slide.is_dir() else slide.stem
        if (other := taken.setdefault(name, slide)) != slide:
            raise UsageError(
                root,
                f"{slide.relative_to(root)} and {other.relative_to(root)} would both be case {name!r}",
                "rename one, or say the cases in --manifest CSV",
            )
    return [make_case(name, [_entry(slide, slide.name)]) for name, slide in taken.items()]


def _by_pattern(root: Path, slides: list[Path], pattern: str) -> list[Case]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--id-pattern {pattern!r}", f"is no regular expression ({error})") from None
    if "case" not in regex.groupindex or set(regex.groupindex) - {"case", "part", "slide"}:
        raise UsageError(
            f"--id-pattern {pattern!r}",
            f"has the named groups {sorted(regex.groupindex)}",
            "name a group (?P<case>…), and optionally (?P<part>…) and (?P<slide>…), no others",
        )
    cases: dict[str, list[SlideEntry]] = {}
    unmatched = []
    for slide in slides:
        relative = slide.relative_to(root).as_posix()
        match = regex.search(relative)
        if match is None or not match["case"]:
            unmatched.append(relative)
            continue
        found = match.groupdict()
        part, label = found.get("part") or None, found.get("slide")
        entry = _entry(slide, "/".join(filter(None, (part, label))) if label else relative, part)
        cases.setdefault(found["case"], []).append(entry)
    if unmatched:
        raise UsageError(
            f"--id-pattern {pattern!r}",
            f"does not match {len(unmatched)} of {len(slides)} slides, such as {unmatched[0]!r}",
            "change the pattern, or move what does not belong",
        )
    for name, entries in cases.items():
        labels = [entry.relative for entry in entries]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise UsageError(f"case {name!r}", f"two files are called slide {twice!r}", "make (?P<slide>…) unique")
    return [make_case(name, entries) for name, entries in cases.items()]


def _entry(slide: Location, relative: str, part: str | None = None) -> SlideEntry:
    return SlideEntry(slide, relative, part=part, missing=not slide.exists())
