from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilers.tile import patches_fingerprint
from wsi_pipeline.cases import Case, Slide, discover
from wsi_pipeline.cases.model import safe_name, slide_id
from wsi_pipeline.errors import SlideError, UsageError
from wsi_pipeline.events import Event, listening
from wsi_pipeline.settings import TileSettings


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def shape(cases: list[Case]) -> dict[str, dict[str | None, list[str]]]:
    return {c.id: {p.name: [s.path.name for s in p.slides] for p in c.parts} for c in cases}


def test_folders_are_cases_and_their_folders_parts(tmp_path: Path) -> None:
    root = touch(tmp_path, "c2/B/2.svs", "c2/A/1.svs", "c2/A/10.svs", "c2/A/2.svs", "c1/x.ndpi", ".hidden/y.svs")
    assert shape(discover(root, "folders")) == {
        "c1": {None: ["x.ndpi"]},
        "c2": {"A": ["1.svs", "2.svs", "10.svs"], "B": ["2.svs"]},
    }


def test_flat_makes_each_slide_a_case(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.svs", "b.tif", "notes.txt")
    assert shape(discover(root, "flat")) == {"a": {None: ["a.svs"]}, "b": {None: ["b.tif"]}}


def test_slides_beside_case_folders_are_refused_not_guessed(tmp_path: Path) -> None:
    root = touch(tmp_path, "c1/x.svs", "stray.svs")
    with pytest.raises(UsageError, match=r"1 of 2 slides lie directly in it.*--layout flat"):
        discover(root, "folders")
    with pytest.raises(UsageError, match="1 of 2 slides"):
        discover(root)


def test_a_tree_too_deep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 folders deep"):
        discover(touch(tmp_path, "a/b/c/x.svs"))


def test_flat_refuses_two_slides_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would both be case 'x'"):
        discover(touch(tmp_path, "a/x.svs", "b/x.svs"), "flat")


def test_pattern_reads_case_part_and_slide_from_names(tmp_path: Path) -> None:
    root = touch(tmp_path, "H24-1_A_1.svs", "H24-1_B_1.svs", "H24-2_A_1.svs")
    cases = discover(root, id_pattern=r"(?P<case>H\d+-\d+)_(?P<part>[A-Z])_(?P<slide>\d+)")
    assert shape(cases) == {
        "H24-1": {"A": ["H24-1_A_1.svs"], "B": ["H24-1_B_1.svs"]},
        "H24-2": {"A": ["H24-2_A_1.svs"]},
    }


def test_pattern_must_match_every_slide(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not match 1 of 2 slides, such as 'odd\.svs'"):
        discover(touch(tmp_path, "H1_A.svs", "odd.svs"), id_pattern=r"(?P<case>H\d+)_")


@pytest.mark.parametrize("pattern", ["(", r"H\d+", r"(?P<case>.)(?P<patient>.)"])
def test_unusable_patterns(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="--id-pattern"):
        discover(touch(tmp_path, "a.svs"), id_pattern=pattern)


def test_an_empty_folder_and_a_missing_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no slides"):
        discover(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        discover(tmp_path / "nowhere")


def test_equal_stems_keep_apart(tmp_path: Path) -> None:
    root = touch(tmp_path, "c/A/1.svs", "c/B/1.svs", "c/A/1.ndpi")
    ids = [s.id for s in discover(root)[0].slides]
    assert len(set(ids)) == 3
    assert all(i.startswith("1-") for i in ids)


def test_mrxs_sidecars_are_no_slides(tmp_path: Path) -> None:
    root = touch(tmp_path, "c/s.mrxs", "c/s/Slidedat.ini", "c/s/Data0000.tif")
    assert shape(discover(root)) == {"c": {None: ["s.mrxs"]}}


def test_a_link_that_leads_nowhere_is_a_missing_slide(tmp_path: Path) -> None:
    root = touch(tmp_path, "c/a.svs")
    (root / "c/b.svs").symlink_to(root / "gone.svs")
    assert [s.missing for s in discover(root)[0].slides] == [False, True]


def test_links_in_a_circle_are_not_followed(tmp_path: Path) -> None:
    root = touch(tmp_path, "case/a.svs")
    for name in ("up", "again"):
        (root / "case" / name).symlink_to(root)
    assert shape(discover(root)) == {"case": {None: ["a.svs"]}}


def test_folders_without_slides_are_told(tmp_path: Path) -> None:
    root = touch(tmp_path, "case/a.svs", "other/scan.svs.part", "more/IM0001")
    told: list[Event] = []
    with listening(told.append):
        discover(root)
    assert [event.facts["folder"] for event in told if event.name == "find.empty"] == ["more", "other"]


def test_a_part_without_slides_is_a_part_that_is_missing(tmp_path: Path) -> None:
    root = touch(tmp_path, "c/A/a.svs", "c/B/IM0001", "c/C/c.svs.part", "c/notes/n.txt", "d/a.svs", "d/more/IM0001")
    (root / "c/D").mkdir()
    found = shape(discover(root))
    assert found == {"c": {"A": ["a.svs"], "B": ["B"], "C": ["C"], "D": ["D"]}, "d": {None: ["a.svs"]}}


def test_a_folder_that_cannot_be_listed_is_a_slide_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touch(tmp_path, "c/a.svs", "c/secret/1.dcm", "d/1.svs", "lost+found/x")
    listed = Path.iterdir

    def refuse(folder: Path) -> Iterator[Path]:
        if folder.name in ("secret", "d", "lost+found"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    cases = discover(root)
    assert shape(cases) == {"c": {None: ["a.svs", "secret"]}, "d": {None: ["d"]}}
    with pytest.raises(SlideError, match="Permission denied"):
        patches_fingerprint(cases[1].slides[0], TileSettings())


def test_pictures_beside_slides_are_no_slides(tmp_path: Path) -> None:
    root = touch(tmp_path, "c/a.svs", "c/label.png", "c/a_thumb.jpg")
    assert shape(discover(root)) == {"c": {None: ["a.svs"]}}


@pytest.mark.parametrize(
    ("stain", "read"),
    [("H&E", True), ("h & e recut", True), ("Hematoxylin and eosin", True), ("HES", True), ("unknown", True),
     ("H.E.", True), ("Hämatoxylin-Eosin", True), ("HPS", True), ("H&E, level 2", True), ("N/A", True),
     ("Ki-67", False), ("HER2", False), ("PAS", False), ("Helicobacter", False), ("HE-Ki67", False), ("HP", False),
     ("Haematoxylin + DAB (Ki-67)", False), ("Hematoxylin counterstain, CD20", False), ("Unknown IHC", False)],
)  # fmt: skip
def test_which_stains_are_read(stain: str, read: bool) -> None:
    assert Slide("s", Path("s.svs"), stain=stain).is_he == read


def test_unicode_and_spaces_work(tmp_path: Path) -> None:
    root = touch(tmp_path, "Fäll Ü 1/Präparat ⅷ (2).svs")
    (case,) = discover(root)
    assert case.id == "Fäll Ü 1"
    assert case.slides[0].id.startswith("Präparat")


@given(st.text(max_size=40))
def test_an_id_never_escapes(text: str) -> None:
    try:
        name = safe_name(text, "case id")
    except UsageError:
        return
    assert Path("out/cases", name).resolve().parent == Path("out/cases").resolve()


@given(st.text(min_size=1, max_size=300).filter(lambda t: "/" not in t and "\0" not in t and Path(t).name == t))
def test_a_slide_id_is_one_folder_name(text: str) -> None:
    name = slide_id(Path(text + ".svs"), text)
    assert Path("out", name).resolve().parent == Path("out").resolve()
    assert len(name.encode()) <= 96
