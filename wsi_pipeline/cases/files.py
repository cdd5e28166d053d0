"""Which paths are slides: one entry per slide, whatever it is made of on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from wsi_pipeline.cases.location import Location
from wsi_pipeline.errors import UsageError

SLIDE_SUFFIXES = frozenset({
    ".svs", ".tif", ".tiff", ".btf", ".ndpi", ".dcm", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".qptiff",
})  # fmt: skip
"""What is a slide in a folder. Plain pictures are not: beside slides they are labels and previews."""

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
"""Slides where they are named one by one."""

UNSUPPORTED = {
    ".isyntax": "Philips iSyntax; export DICOM or TIFF from the Philips IMS",
    ".i2syntax": "Philips iSyntax; export DICOM or TIFF from the Philips IMS",
    ".czi": "Zeiss CZI; convert with bioformats2raw + raw2ometiff, or ZEN's OME-TIFF export",
    ".vsi": "Olympus VSI; convert with bioformats2raw + raw2ometiff",
    ".sdpc": "Sqray SDPC; convert to SVS with the vendor's tool",
    ".kfb": "KFBio KFB; convert to SVS with the vendor's tool",
    ".lif": "Leica LIF; convert with bioformats2raw + raw2ometiff",
    ".mds": "Motic MDS; convert to SVS with the vendor's tool",
    ".ets": "Olympus ETS tile data; convert the .vsi it belongs to with bioformats2raw",
}
"""Formats that no reader here opens, and what to convert them with."""


def slides_in(folder: Path) -> list[Path]:
    """Slides directly in `folder`, sorted: files, and DICOM slides as their first file.

    A DICOM series of several instances in one folder is one slide, named by the folder when it is the
    folder's only series. MRXS sidecar folders and hidden files are no slides; a link that leads nowhere is one,
    and fails as one.

    Raises:
        UsageError: the folder cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(folder, f"cannot be listed ({error.strerror})", "check its permissions") from None
    files = [p for p in entries if (p.is_file() or _is_dead_link(p)) and not p.name.startswith(".")]
    slides = [p for p in files if is_slide_file(p) and p.suffix.lower() != ".dcm"]
    return sorted(slides + _dicom_slides(folder, _dicom_in(folder)))


@overload
def files_of(slide: Path) -> list[Path]: ...
@overload
def files_of(slide: Location) -> Sequence[Location]: ...
def files_of(slide: Location) -> Sequence[Location]:
    """Every file a slide is made of: the instances of a DICOM series, an `.mrxs` with its folder, a
    `.vms` or `.vmu` with the images it names, or the file."""
    if not isinstance(slide, Path):
        return [slide]
    if slide.is_dir():
        return _dicom_in(slide)
    if slide.suffix.lower() == ".dcm" and slide.is_file():
        series = _series_of(slide)
        return [p for p in _dicom_in(slide.parent) if p == slide or _series_of(p) == series]
    if slide.suffix.lower() in (".vms", ".vmu"):
        return [slide, *_named_in(slide)]
    if slide.suffix.lower() == ".mrxs":
        return [slide, *(p for p in sorted(slide.with_suffix("").rglob("*")) if p.is_file())]
    return [slide]


def _dicom_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".dcm" and p.is_file())


def _named_in(index: Path) -> list[Path]:
    """Images beside a Hamamatsu index that it names."""
    try:
        text = index.read_text(encoding="latin-1")
    except OSError:
        return []  # whoever reads it next says so
    named = {line.partition("=")[2].strip() for line in text.splitlines()}
    return sorted(p for name in named if name and (p := index.with_name(Path(name).name)).is_file())


def count_series(folder: Path) -> int:
    """DICOM series directly in a folder."""
    return len({_series_of(path) for path in _dicom_in(folder)})


def _is_dead_link(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def is_slide_file(path: Location) -> bool:
    """Whether the suffix says so, a format we cannot read included (it gets its own row)."""
    return path.suffix.lower() in SLIDE_SUFFIXES or path.suffix.lower() in UNSUPPORTED


def is_sidecar(folder: Path) -> bool:
    """Whether a folder belongs to the slide file of the same stem (MRXS, VSI)."""
    stem = folder.name.removeprefix("_").removesuffix("_")
    return any((folder.parent / f"{stem}{suffix}").is_file() for suffix in (".mrxs", ".vsi"))


def _dicom_slides(folder: Path, files: list[Path]) -> list[Path]:
    series: dict[str, list[Path]] = {}
    for path in files:
        series.setdefault(_series_of(path), []).append(path)
    if len(series) == 1 and len(files) > 1:
        return [folder]
    return [sorted(paths)[0] for paths in series.values()]


def _series_of(path: Path) -> str:
    """The series a DICOM file belongs to; an unreadable file is a slide of its own, and fails as one."""
    from pydicom import dcmread

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(header.get("SeriesInstanceUID", path))
    except Exception:  # damaged headers make pydicom raise a dozen kinds of error
        return str(path)
