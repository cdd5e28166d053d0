from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from wsi_pipeline.cases import discover, refuse_mixed_patients
from wsi_pipeline.errors import UsageError


def dicom(path: Path, patient: str, series: str | None = None, accession: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID = series or generate_uid()
    data.PatientID, data.AccessionNumber = patient, accession
    data.save_as(path, enforce_file_format=True)


def test_two_patients_in_one_case_are_refused_without_printing_them(tmp_path: Path) -> None:
    dicom(tmp_path / "case/a/1.dcm", "Mustermann-4711")
    dicom(tmp_path / "case/b/1.dcm", "Doe-0815")
    (case,) = discover(tmp_path)
    with pytest.raises(UsageError, match="different PatientID") as caught:
        refuse_mixed_patients(case)
    assert "4711" not in str(caught.value)
    assert "0815" not in str(caught.value)


def test_two_accessions_in_one_case_are_refused(tmp_path: Path) -> None:
    dicom(tmp_path / "case/a/1.dcm", "same", accession="A1")
    dicom(tmp_path / "case/b/1.dcm", "same", accession="A2")
    with pytest.raises(UsageError, match="different AccessionNumber"):
        refuse_mixed_patients(discover(tmp_path)[0])


def test_one_patient_is_fine_and_a_series_is_one_slide(tmp_path: Path) -> None:
    series = generate_uid()
    for n in range(3):
        dicom(tmp_path / f"case/part/{n}.dcm", "same", series)
    (case,) = discover(tmp_path)
    refuse_mixed_patients(case)
    assert [s.path.name for s in case.slides] == ["part"]
