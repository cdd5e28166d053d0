"""Phantom slides, their truth and their seeds."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.workflows.conftest import SMALL, digest
from tilers.readers import open_slide
from workflows.demo import demo_cases
from workflows.phantom.drawing import artefacts, painting
from workflows.phantom.drawing.artefacts import NAMES
from workflows.phantom.drawing.cohort import draw_case, write_cases
from workflows.phantom.drawing.contents import MOST, artefact, mimic_of
from workflows.phantom.drawing.layout import Focus, SlideSpec, lay_out, patches_showing
from workflows.phantom.drawing.painting import paint
from workflows.phantom.drawing.scanner import draw_scanner, scan
from workflows.phantom.drawing.slide import make_slide
from workflows.phantom.drawing.tissue import STAIN_COLOURS, Stains, draw, match_light
from workflows.phantom.measuring.reports import Readers, measure
from workflows.phantom.pathology import ORGANS, Motif, organ_named
from workflows.phantom.seeds import PARTS, SEEDS, SLIDES, Split, case_seed, require, slide_seed, split_of
from workflows.phantom.wording import EXTENSIVE_PATCHES, FOCAL_PATCHES


def spec(lesion: str | None = "Hyperplastic polyp", mm: float = 0.6, **given: object) -> SlideSpec:
    place = given.pop("place", None)
    foci = (Focus(lesion, mm, place),) if lesion else ()  # type: ignore[arg-type]
    return SlideSpec(**({"seed": 5, "organ": "Colon", "foci": foci} | SMALL | given))  # type: ignore[arg-type]


def test_a_demo_that_was_interrupted_makes_what_is_missing(tmp_path: Path) -> None:
    for seed in (0, 1):
        there = tmp_path / draw_case(seed, "demo").id
        there.mkdir()
        (there / "s.svs").write_text("made before")
    cases = demo_cases(tmp_path, workers=1)
    assert [len(case.slides) for case in cases] == [1, 1, 4]
    assert not list(tmp_path.glob(".*"))


def test_a_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    make_slide(tmp_path / "a.svs", spec())
    make_slide(tmp_path / "b.svs", spec())
    make_slide(tmp_path / "c.svs", spec(seed=6))
    assert digest(tmp_path / "a.svs") == digest(tmp_path / "b.svs") != digest(tmp_path / "c.svs")


@pytest.mark.parametrize(("layout", "suffix"), [("svs", "svs"), ("tiff", "tif")])
@pytest.mark.parametrize(("mpp", "factors"), [(1.0, ()), (0.5, (4,)), (0.25, (4, 16))])
def test_a_slide_is_what_was_asked_for(
    tmp_path: Path, layout: str, suffix: str, mpp: float, factors: tuple[int, ...]
) -> None:
    path = tmp_path / f"s.{suffix}"
    make_slide(path, spec(layout=layout, mpp=mpp, factors=factors))
    reader = open_slide(path).reader
    assert reader.is_phantom
    assert reader.size == (round(1600 / mpp), round(1200 / mpp))
    assert [round(d) for d in reader.downsamples[: len(reader.level_sizes)]] == [1, *factors]
    stated = reader.mpp_xy[0] if reader.mpp_xy else reader.tiff_mpp
    assert stated == pytest.approx(mpp, rel=1e-3)


def test_a_lesion_lies_where_and_as_large_as_asked() -> None:
    found = lay_out(spec(width_mm=3.0, height_mm=2.5, place=(0.25, 0.5))).lesion > 0
    y, x = np.argwhere(found).mean(0)
    assert abs(x / found.shape[1] - 0.25) < 0.06
    assert abs(y / found.shape[0] - 0.5) < 0.06
    assert 0.6 < found.sum() * 16e-6 / (np.pi * 0.3**2) < 1.4
    assert not lay_out(spec(None)).lesion.any()


def test_there_are_organs_and_diagnoses_enough() -> None:
    assert len(ORGANS) >= 4
    assert all(len(o.diagnoses) >= 5 and not o.benign.malignant for o in ORGANS)
    assert all(lesion.mimic for organ in ORGANS for lesion in organ.lesions)
    texts = [d.text for o in ORGANS for d in o.diagnoses]
    assert len(set(texts)) == len(texts)


def test_seed_ranges_do_not_meet() -> None:
    ranges = sorted(SEEDS.values(), key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
    with pytest.raises(ValueError, match="outside the demo range"):
        draw_case(5000, "demo")
    with pytest.raises(ValueError, match="'Spleen' is unknown; there are: Colon"):
        draw_case(0, "test", organ="Spleen")


@given(st.sampled_from(list(SEEDS)), st.integers(0, 999), st.integers(0, PARTS - 1), st.integers(0, SLIDES - 1))
def test_every_slide_belongs_to_the_split_of_its_case(split: Split, seed: int, part: int, slide: int) -> None:
    assert split_of(slide_seed(case_seed(seed, split), part, slide)) == split


def test_slides_of_another_split_are_refused() -> None:
    case = draw_case(7, "calibration", slides=1, diagnosis="Chronic active colitis", organ="Colon")
    with pytest.raises(ValueError, match="belongs to the calibration split and must not be used for test"):
        list(measure(Path("unused"), [case], Readers()))
    with pytest.raises(ValueError, match="must not be used for train"):
        require("train", [slide.seed for slide in case.parts[0].slides])


@pytest.mark.parametrize("seed", range(12))
def test_a_part_tells_one_story(seed: int) -> None:
    case = draw_case(seed, "test", parts=1 + seed % 3)
    assert len({part.organ.name for part in case.parts}) == len(case.parts)
    for part in case.parts:
        assert 1 <= len(part.slides) <= 12
        assert [bool(s.foci) for s in part.slides] == [n in part.shown_on for n in range(1, len(part.slides) + 1)]
        assert len({n for f in part.findings for n in f.slides}) == sum(len(f.slides) for f in part.findings)
        for finding in part.findings:
            patches = [patches_showing(lay_out(part.slides[n - 1])) for n in finding.slides]
            assert sum(patches) <= FOCAL_PATCHES if finding.extent == "focal" else min(patches) >= EXTENSIVE_PATCHES
        malignant = [f.diagnosis.malignant for f in part.findings]
        assert malignant == sorted(malignant, reverse=True)
        assert part.text.count("\n- ") == max(1, len(part.findings))


def test_parts_see_no_more_organs_than_there_are() -> None:
    with pytest.raises(ValueError, match="there are 4 organs"):
        draw_case(0, "test", parts=5)


def test_truth_is_written_beside_the_slides(tmp_path: Path) -> None:
    import wsi_pipeline as wp

    case = draw_case(4, "test", parts=2, slides=1, extent="focal", **SMALL)
    write_cases(tmp_path, [case])
    truth = json.loads((tmp_path / "truth.json").read_text())["parts"]
    assert [t["part"] for t in truth] == ["A", "B"]
    assert [t["report"] for t in truth] == [part.text for part in case.parts]
    for (found,) in (wp.find_cases(tmp_path), wp.find_cases(manifest=tmp_path / "manifest.csv")):
        assert [part.name for part in found.parts] == ["A", "B"]
        assert len(found.slides) == 2


def through_a_thumbnail(stains: Stains) -> NDArray[np.float64]:
    """Red light through blocks of about 100 µm."""
    light = 10 ** -(0.65 * stains.haem + 0.09 * stains.eosin) * (1 - 0.43 * stains.nuclei)
    return light[:100, :100].reshape(4, 25, 4, 25).mean((1, 3))


def test_a_thumbnail_does_not_show_a_texture() -> None:
    rng = np.random.default_rng(0)
    benign, lesion = (draw(rng, ORGANS[0].diagnoses[k].motif, (104, 104)) for k in (0, 4))
    matched = match_light(lesion, benign)
    before, here, after = (through_a_thumbnail(s) for s in (benign, lesion, matched))
    assert here.std() > 4 * after.std()
    assert abs(after.mean() - before.mean()) < 0.01
    # what is finer than a thumbnail's pixel stays
    assert float(matched.nuclei.std()) > 0.3 * float(lesion.nuclei.std())


def test_contrast_goes_from_obvious_to_invisible() -> None:
    def nuclei(lesion: str, contrast: float) -> NDArray[np.float32]:
        here = spec(lesion, 0.8, contrast=contrast, distractors=False)
        return paint(here, lay_out(here)).stains.nuclei

    one, other = "Adenocarcinoma, moderately differentiated", "Hyperplastic polyp"
    apart = [float(np.abs(nuclei(one, c) - nuclei(other, c)).mean()) for c in (0.0, 0.2, 1.0)]
    assert apart[0] == 0 < apart[1] < apart[2]
    assert Motif(10, 4, 2).toward(Motif(20, 8, 4), 0.5) == Motif(15, 6, 3)


def test_every_slide_has_its_own_stain_and_scanner() -> None:
    scanners = [draw_scanner(np.random.default_rng(seed)) for seed in range(40)]
    colours = np.array([scanner.colours for scanner in scanners])
    assert (colours.std(0) > 0.05 * STAIN_COLOURS).all()
    assert np.array([scanner.glass for scanner in scanners]).std() > 2
    assert {scanner.blur_um > 0 for scanner in scanners} == {True, False}
    tissue = spec(None, distractors=False)
    stains = paint(tissue, lay_out(tissue)).stains
    sharp = replace(scanners[0], blur_um=0.0)
    out_of_focus, dim = replace(sharp, blur_um=2.5), replace(sharp, glass=sharp.glass - 20)
    nowhere = np.zeros(stains.haem.shape, bool)
    first, soft, dark = (
        scan(np.random.default_rng(0), scanner, stains, None, nowhere, 1.0).astype(float)
        for scanner in (sharp, out_of_focus, dim)
    )
    assert np.abs(np.diff(soft, axis=1)).mean() < 0.7 * np.abs(np.diff(first, axis=1)).mean()
    assert 15 < (first - dark).max() <= 21


def test_distractors_leave_lesions_to_be_seen() -> None:
    drawn = {"blurred": False, "laid over": False}
    for seed in range(6):
        here = spec(mm=0.6, seed=seed)
        layout = lay_out(here)
        painting = paint(here, layout)
        assert not painting.blurred[layout.lesion > 0].any()
        drawn["blurred"] |= bool(painting.blurred.any())
        if painting.overlay is not None:
            assert not painting.overlay[layout.lesion > 0].any()
            drawn["laid over"] |= bool(painting.overlay.any())
    assert all(drawn.values())


def test_textures_differ_from_slide_to_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same slide without what makes textures its own looks otherwise."""
    plain = spec(None, distractors=False)
    own = paint(plain, lay_out(plain)).stains.maps[0]
    monkeypatch.setattr(painting, "varied", lambda rng, motif: motif)
    usual = paint(plain, lay_out(plain)).stains.maps[0]
    assert np.abs(own - usual)[own > 0].mean() > 0.02


def test_blood_covers_no_lesion(monkeypatch: pytest.MonkeyPatch) -> None:
    slides = [spec(mm=0.6, seed=seed) for seed in range(24)]
    paintings = {one.seed: paint(one, lay_out(one)) for one in slides}
    bloody = [one for one in slides if (paintings[one.seed].content == artefact("blood")).any()]
    assert bloody
    monkeypatch.setattr(artefacts, "blood", lambda rng, stains, taboo: (stains, np.zeros_like(taboo)))
    for one in bloody:
        layout = lay_out(one)
        lesion = layout.lesion > 0
        without = paint(one, layout)
        maps = zip(paintings[one.seed].stains.maps, without.stains.maps, strict=True)
        assert all(np.array_equal(a[lesion], b[lesion]) for a, b in maps)


def test_what_lies_where_is_known() -> None:
    here = spec("Adenocarcinoma, poorly differentiated", mm=0.6, seed=3)
    layout = lay_out(here)
    content = paint(here, layout).content
    assert (content[layout.lesion > 0] == 5).all()
    assert not np.isin(content[layout.lesion == 0], np.arange(1, MOST)).any()
    kinds = {
        int(k)
        for seed in range(24)
        for k in np.unique(paint(spec(None, seed=seed), lay_out(spec(None, seed=seed))).content)
    }
    mimics = {mimic_of(number) for number, d in enumerate(organ_named(here.organ).diagnoses) if d.mimic}
    assert len(mimics) > 3
    assert mimics <= kinds
    assert {artefact(name) for name in NAMES} <= kinds
    plain = spec(None, distractors=False)
    assert not paint(plain, lay_out(plain)).content.any()
