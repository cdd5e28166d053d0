"""Which paths are slides: one entry per slide, whatever it is made of on disk."""

from __future__ import annotations

from pathlib import Path

SLIDE_SUFFIXES = frozenset(
    [
        ".svs",
        ".tif",
        ".tiff",
        ".btf",
        ".ndpi",
        ".dcm",
        ".mrxs",
        ".scn",
        ".bif",
        ".vms",
        ".vmu",
        ".svslide",
        ".qptiff",
        ".jpg",
        ".jpeg",
        ".png",
    ]
)

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
    folder's only series. MRXS sidecar folders and hidden files are no slides.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    slides = [p for p in files if is_slide_file(p) and p.suffix.lower() != ".dcm"]
    dicom = [p for p in files if p.suffix.lower() == ".dcm"]
    return sorted(slides + _dicom_slides(folder, dicom))


def is_slide_file(path: Path) -> bool:
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
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(header.get("SeriesInstanceUID", path))
    except (InvalidDicomError, OSError, ValueError):
        return str(path)
