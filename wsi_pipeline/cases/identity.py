"""One case, one patient: DICOM headers inside a case must agree."""

from __future__ import annotations

from collections.abc import Sequence

from wsi_pipeline.cases.files import files_of
from wsi_pipeline.cases.location import Location
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
        for path in () if slide.missing else _files(slide.path):
            for attribute, value in _identity(path).items():
                other, known = first.setdefault(attribute, (slide.id, value))
                if known != value:
                    raise UsageError(
                        f"case {case.id!r}",
                        f"slides {other} and {slide.id} have different {attribute} in their DICOM headers",
                        "put each patient's slides into their own case",
                    )


def _files(slide: Location) -> Sequence[Location]:
    try:
        return files_of(slide)
    except OSError:  # it fails in a row of its own
        return ()


def _identity(path: Location) -> dict[str, str]:
    if path.suffix.lower() != ".dcm":
        return {}
    from pydicom import dcmread

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(_IDENTITY))
    except Exception:  # damaged headers make pydicom raise a dozen kinds of error; the reader will say so
        return {}
    return {a: str(header.get(a)).strip() for a in _IDENTITY if str(header.get(a) or "").strip()}
