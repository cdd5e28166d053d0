from pathlib import Path

import pytest

from wsi_pipeline.cases import read_manifest
from wsi_pipeline.errors import UsageError


def manifest(folder: Path, text: str) -> Path:
    for name in ("a.svs", "b.svs"):
        (folder / name).write_bytes(b"x")
    path = folder / "cases.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_manifest(tmp_path: Path) -> None:
    text = (
        "case_id,slide,part,stain,mpp,tissue,procedure,context,mask\n"
        'c1,a.svs,A,H&E,0.25,Colon,biopsy,"polyp, 5 mm",a.geojson\n'
        "c1,b.svs,B,Ki-67,,,,,\n"
    )
    (case,) = read_manifest(manifest(tmp_path, text))
    a, b = case.parts
    assert (a.name, a.tissue, a.procedure, a.context) == ("A", "Colon", "biopsy", "polyp, 5 mm")
    assert (a.slides[0].mpp, a.slides[0].is_he) == (0.25, True)
    assert a.slides[0].mask == tmp_path / "a.geojson"
    assert not b.slides[0].is_he


def test_a_missing_file_is_its_slides_problem(tmp_path: Path) -> None:
    (case,) = read_manifest(manifest(tmp_path, "case_id,slide\nc1,a.svs\nc1,gone.svs\n"))
    assert [s.missing for s in case.slides] == [False, True]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("case_id,slide,colour\nc,a.svs,red\n", "unknown column.*'colour'"),
        ("slide\na.svs\n", "lacks column.*'case_id'"),
        ("case_id,slide,slide\nc,a.svs,b.svs\n", "repeats column.*'slide'"),
        ("case_id,slide\n", "has no rows"),
        ("", "lacks column"),
        ("case_id,slide\nc,a.svs\nd,a.svs\n", "line 3: names the same slide as line 2"),
        ("case_id,slide\nc,a.svs\nd,./a.svs\n", "names the same slide"),
        ("case_id,slide\nc,\n", "is empty"),
        ("case_id,slide\nc,a.svs,extra\n", "more or fewer fields"),
        ("case_id,slide,mpp\nc,a.svs,fast\n", "mpp 'fast' is no resolution"),
        ("case_id,slide,mpp\nc,a.svs,352.8\n", "is no resolution"),
        ("case_id,slide\n../evil,a.svs\n", "cannot be a folder name"),
        ("case_id,slide,part,tissue\nc,a.svs,A,Colon\nc,b.svs,A,Lung\n", "2 different values of tissue"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        read_manifest(manifest(tmp_path, text))


def test_not_utf8_says_so(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("case_id,slide\nfäll,a.svs\n".encode("latin-1"))
    with pytest.raises(UsageError, match="CSV in UTF-8"):
        read_manifest(path)
