from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.conftest import MakeSlide
from tilers.tile import patches_fingerprint
from workflows.estimate import describe, estimate
from workflows.run import exit_code, run
from wsi_pipeline.cases import discover, refuse_mixed_patients
from wsi_pipeline.errors import SlideError, UsageError
from wsi_pipeline.settings import TileSettings, gather


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


def test_every_instance_of_a_series_counts(tmp_path: Path) -> None:
    """Two series in one folder: each slide is named by one file and made of several."""
    from wsi_pipeline.store.fingerprint import input_identity

    first, second = generate_uid(), generate_uid()
    for n, series in enumerate((first, first, second, second)):
        dicom(tmp_path / f"case/x/{n}.dcm", "same", series)
    (case,) = discover(tmp_path)
    assert [s.path.name for s in case.slides] == ["0.dcm", "2.dcm"]
    before = input_identity(case.slides[0].path)
    dicom(tmp_path / "case/x/1.dcm", "another", first)
    assert input_identity(case.slides[0].path) != before
    with pytest.raises(UsageError, match="different PatientID"):
        refuse_mixed_patients(case)


def test_a_case_folder_may_be_one_dicom_slide_and_suffixes_in_capitals(tmp_path: Path) -> None:
    series = generate_uid()
    dicom(tmp_path / "CASE1/a.DCM", "p", series)
    dicom(tmp_path / "CASE1/b.dcm", "p", series)
    dicom(tmp_path / "CASE2/a.dcm", "q")
    assert {c.id: [s.path.name for s in c.slides] for c in discover(tmp_path)} == {
        "CASE1": ["CASE1"],
        "CASE2": ["a.dcm"],
    }


def test_a_damaged_header_is_the_slides_problem(tmp_path: Path) -> None:
    dicom(tmp_path / "case/part/1.dcm", "p")
    whole = (tmp_path / "case/part/1.dcm").read_bytes()
    for keep in range(0, len(whole), 7):
        (tmp_path / "case/part/1.dcm").write_bytes(whole[:keep])
        (case,) = discover(tmp_path)
        refuse_mixed_patients(case)
        assert len(case.slides) == 1


def test_one_patient_is_fine_and_a_series_is_one_slide(tmp_path: Path) -> None:
    series = generate_uid()
    for n in range(3):
        dicom(tmp_path / f"case/part/{n}.dcm", "same", series)
    (case,) = discover(tmp_path)
    refuse_mixed_patients(case)
    assert [s.path.name for s in case.slides] == ["part"]


def test_a_hamamatsu_index_counts_with_the_images_it_names(tmp_path: Path) -> None:
    from wsi_pipeline.store.fingerprint import input_identity

    (tmp_path / "s.vms").write_text("[Virtual Microscope Specimen]\nImageFile=s.jpg\nMapFile=s_map.jpg\n")
    (tmp_path / "s.jpg").write_bytes(b"one")
    before = input_identity(tmp_path / "s.vms")
    (tmp_path / "s.jpg").write_bytes(b"another")
    assert input_identity(tmp_path / "s.vms") != before


def test_a_name_that_is_no_utf_8_has_an_identity(tmp_path: Path) -> None:
    import os

    from wsi_pipeline.store.fingerprint import input_identity

    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Pr\xe4parat.svs"))
    path.write_bytes(b"x")
    assert len(input_identity(path)) == 32


def test_a_folder_that_cannot_be_read_fails_later_in_a_row_of_its_own(tmp_path: Path) -> None:
    dicom(tmp_path / "case/a/1.dcm", "same")
    (case,) = discover(tmp_path)
    (tmp_path / "case/a/1.dcm").unlink()
    (tmp_path / "case/a").rmdir()
    refuse_mixed_patients(case)
    with pytest.raises(SlideError, match="cannot be read"):
        patches_fingerprint(case.slides[0], TileSettings())


def test_a_case_of_two_patients_fails_and_the_others_go_on(make_slide: MakeSlide, tmp_path: Path) -> None:
    dicom(tmp_path / "slides/mixed/a/1.dcm", "Mustermann-4711")
    dicom(tmp_path / "slides/mixed/b/1.dcm", "Doe-0815")
    make_slide("slides/well/s.svs")
    cases = discover(tmp_path / "slides")
    given = gather({"model": "none"})
    assert "different PatientID" in describe(estimate(cases, given, tmp_path / "out"))
    mixed, well = run(cases, tmp_path / "out", given)
    assert (mixed.status, well.status) == ("failed", "done")
    assert "different PatientID" in str(mixed.reason)
    assert exit_code([mixed, well]) == 1
    assert not list((tmp_path / "out/cases/mixed").glob("slides/*/*.zarr"))
