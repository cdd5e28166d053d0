"""One case, one patient: DICOM headers inside a case must agree."""

from __future__ import annotations

from pathlib import Path

from wsi_pipeline.cases.model import Case
from wsi_pipeline.errors import UsageError

_IDENTITY = ("PatientID", "AccessionNumber")


def refuse_mixed_patients(case: Case) -> None:
    """Refuse a case whose DICOM slides carry different patients or accessions.

    Values are compared in memory and never printed, logged or stored.

    Raises:
        UsageError: naming the attribute and the slides, not the values.
    """
    first: dict[str, tuple[str, str]] = {}
    for slide in case.slides:
        for path in _instances(slide.path):
            for attribute, value in _identity(path).items():
                other, known = first.setdefault(attribute, (slide.id, value))
                if known != value:
                    raise UsageError(
                        f"case {case.id!r}",
                        f"slides {other} and {slide.id} have different {attribute} in their DICOM headers",
                        "put each patient's slides into their own case",
                    )


def _instances(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.dcm"))
    return [path] if path.suffix.lower() == ".dcm" and path.is_file() else []


def _identity(path: Path) -> dict[str, str]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(_IDENTITY))
    except (InvalidDicomError, OSError, ValueError):
        return {}  # not readable as DICOM: the reader will say so of this slide
    return {a: str(header.get(a)).strip() for a in _IDENTITY if str(header.get(a) or "").strip()}
