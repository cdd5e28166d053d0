import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reporters.training.build import Shape, build_model, build_tokenizer
from reporters.training.writer import WriterTrainer
from tilers.readers import open_slide
from workflows.phantom.artefacts import NAMES
from workflows.phantom.cohort import draw_case, write_cases
from workflows.phantom.contents import CONTENTS, MOST, artefact, mimic_of
from workflows.phantom.evaluate import WHOLE, Readers, draw_cohort, measure
from workflows.phantom.examples import examples
from workflows.phantom.labels import Labelled, cell_targets
from workflows.phantom.layout import Focus, SlideSpec, lay_out, patches_showing
from workflows.phantom.lessons import LearntSlide, Lessons, merged_report
from workflows.phantom.painting import paint
from workflows.phantom.pathology import ORGANS, Motif
from workflows.phantom.pool import build_pool
from workflows.phantom.recipe import QUICK
from workflows.phantom.robust import HANDLINGS, measure_robustness
from workflows.phantom.scoring import NOTHING, Said, rates, score, truth_of
from workflows.phantom.seeds import PARTS, SEEDS, SLIDES, Split, case_seed, require, slide_seed, split_of
from workflows.phantom.shortcuts import KINDS, right_diagnosis, said_by, train_shortcut
from workflows.phantom.slide import make_slide
from workflows.phantom.tissue import Stains, draw, match_light
from workflows.phantom.train import PROFILE, train
from workflows.phantom.wording import EXTENSIVE_PATCHES, FOCAL_PATCHES
from wsi_pipeline.events import listening
from wsi_pipeline.store.patches import PatchStore

SMALL = {"width_mm": 1.6, "height_mm": 1.2}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec(lesion: str | None = "Hyperplastic polyp", mm: float = 0.6, **given: object) -> SlideSpec:
    place = given.pop("place", None)
    foci = (Focus(lesion, mm, place),) if lesion else ()  # type: ignore[arg-type]
    return SlideSpec(**({"seed": 5, "organ": "Colon", "foci": foci} | SMALL | given))  # type: ignore[arg-type]


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
            patches = sum(patches_showing(lay_out(part.slides[n - 1])) for n in finding.slides)
            assert patches <= FOCAL_PATCHES if finding.extent == "focal" else patches >= EXTENSIVE_PATCHES
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
    def nuclei(contrast: float) -> NDArray[np.float32]:
        here = spec("Adenocarcinoma, moderately differentiated", 0.8, contrast=contrast, distractors=False)
        layout = lay_out(here)
        return np.sort(paint(here, layout).stains.nuclei[layout.lesion > 0])

    redrawn = nuclei(0.0)
    away = [float(np.abs(nuclei(contrast) - redrawn).mean()) for contrast in (0.0, 0.2, 1.0)]
    assert away[0] == 0 < away[1] < away[2]
    assert Motif(10, 4, 2).toward(Motif(20, 8, 4), 0.5) == Motif(15, 6, 3)


def test_distractors_leave_lesions_to_be_seen() -> None:
    for seed in range(6):
        here = spec(mm=0.6, seed=seed)
        layout = lay_out(here)
        painting = paint(here, layout)
        assert not painting.blurred[layout.lesion > 0].any()
        if painting.overlay is not None:
            assert not painting.overlay[layout.lesion > 0].any()


def test_what_lies_where_is_known() -> None:
    here = spec("Adenocarcinoma, poorly differentiated", mm=0.6, seed=3)
    layout = lay_out(here)
    content = paint(here, layout).content
    assert (content[layout.lesion > 0] == 5).all()
    assert not np.isin(content[layout.lesion == 0], np.arange(1, MOST)).any()
    kinds = {
        int(k)
        for seed in range(8)
        for k in np.unique(paint(spec(None, seed=seed), lay_out(spec(None, seed=seed))).content)
    }
    assert kinds & {mimic_of(k) for k in range(1, MOST)}
    assert kinds & {artefact(name) for name in NAMES}
    plain = spec(None, distractors=False)
    assert not paint(plain, lay_out(plain)).content.any()


def test_quarters_take_their_truth_along() -> None:
    """Patches whose grey level is their content: whatever is turned and mixed, the two must still agree."""
    kinds = torch.tensor([0, 1, 5, mimic_of(2), artefact("blood"), artefact("blur")])
    images = (20 + 10 * kinds).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 28, 28, 3)
    shares = torch.zeros(len(kinds), 4, 4, CONTENTS)
    shares[torch.arange(len(kinds)), :, :, kinds] = 1
    patches = Labelled(images, torch.zeros(len(kinds), dtype=torch.long), shares)
    (whole,) = cell_targets(patches, (1,)).values()
    classes = whole[:, 0].argmax(-1)
    assert len(set(classes.tolist())) == len(kinds)
    pixels, targets = next(examples(patches, (1, 4), batch=64, seed=0))
    quarters = pixels.mean(1).unflatten(2, (2, -1)).unflatten(1, (2, -1)).mean((2, 4)).flatten(1)
    nearest = (quarters.flatten()[:, None] - (images[:, 0, 0, 0].float() / 127.5 - 1)).abs().argmin(-1)
    assert (targets[4].flatten(0, 1).argmax(-1) == classes[nearest]).float().mean() > 0.9  # stain is varied, too
    assert (quarters.std(1) > 0.01).float().mean() > 0.3
    assert torch.allclose(targets[1].sum(-1), torch.ones(64, 1))


def test_concluding_is_learnt_from_given_lines() -> None:
    slides = [LearntSlide(o, d, True, (), np.ones(1, bool), np.ones(1, bool)) for o in ORGANS for d in o.diagnoses]
    lesson = Lessons(slides, 0).conclude(5)
    assert lesson.text.startswith(lesson.given)
    assert lesson.given.count("Slide ") == 5
    assert not lesson.text.removeprefix(lesson.given).startswith("Slide ")
    tokenizer = build_tokenizer([lesson.text, PROFILE.opening, PROFILE.prompt, PROFILE.closing])
    trainer = WriterTrainer(build_model(Shape(), tokenizer, 0), tokenizer, PROFILE, 0)
    batch = trainer.collate([lesson])
    assert tokenizer.decode(batch.labels[batch.labels >= 0]) == lesson.text.removeprefix(lesson.given) + "<end_of_turn>"


def test_a_perfect_reader_scores_and_errors_are_told_apart() -> None:
    (part,) = draw_case(1, "test", slides=4, organ="Breast", diagnosis="Invasive ductal carcinoma, grade 1").parts
    truth = truth_of(part)
    best = score("x", truth, part)
    assert best.exact
    assert best.slides
    assert best.extent
    ((text, extent, slides),) = truth.findings
    other = Said(truth.specimen, ((text.replace("grade 1", "grade 2"), extent, slides),))
    assert not score("x", other, part).exact
    assert score("x", other, part).name
    benign = Said(truth.specimen, ((part.organ.benign.text, "", ()),))
    assert score("x", benign, part).called_benign
    assert not score("x", Said(truth.specimen, ((text, extent, (9,)),)), part).slides
    assert not score("x", Said("Colon, biopsy", truth.findings), part).organ
    (well,) = draw_case(1, "test", slides=1, organ="Colon", diagnosis="No pathologic change").parts
    assert score("x", Said("Colon, biopsy", (("Hyperplastic polyp", "", (1,)),)), well).called_diseased


def test_no_report_is_a_wrong_report() -> None:
    missing = score("x", NOTHING, draw_case(1, "test", slides=1).parts[0])
    assert not missing.exact
    assert not missing.organ
    found = rates([missing])
    assert (found["n"], found["exact"], found["low"]) == (1, 0.0, 0.0)
    assert found["high"] == pytest.approx(0.793, abs=1e-3)  # Wilson, 0 of 1


def test_a_cohort_fills_every_bucket() -> None:
    cases = draw_cohort(40, 3)
    counts = [len(part.slides) for case in cases for part in case.parts]
    assert [sum(low <= n <= high for n in counts) for low, high in ((1, 1), (2, 5), (6, 12))] == [3, 3, 3]
    assert len({case.id for case in cases}) == len(cases)


def test_merging_cites_findings() -> None:
    part = draw_case(3, "test", slides=5, organ="Colon", diagnosis="Hyperplastic polyp", extent="focal").parts[0]
    (finding,) = part.findings
    assert merged_report(part.organ, 5, part.findings).endswith(f"- Hyperplastic polyp [F{finding.slides[0]}]")
    assert merged_report(part.organ, 2, ()).endswith("[F1, F2]")


def test_the_benchmark_reads_a_case_from_files(tmp_path: Path) -> None:
    size = {"width_mm": 2.4, "height_mm": 2.0, "mpp": 1.0, "factors": (4,)}
    case = draw_case(900_002, "test", slides=2, extent="focal", **size)
    (scores,) = measure(tmp_path, [case], Readers(), workers=1)
    assert scores[0].reader == WHOLE
    assert len({s.reader for s in scores}) == len(scores) == 5
    assert not any(tmp_path.iterdir())


def test_slides_may_be_renamed_and_come_in_another_order(tmp_path: Path) -> None:
    some = [h for h in HANDLINGS if h.name in ("renamed", "reordered")]
    (same,) = measure_robustness(tmp_path, 900_005, 1, workers=1, handlings=some)
    assert same == {"renamed": True, "reordered": True}
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_a_thumbnail_classifier_sees_a_slide_and_names_its_suspect(tmp_path: Path) -> None:
    fixed = {"slides": 1, "organ": "Colon", "extent": "focal", **SMALL}
    specs = [slide for n in range(4) for slide in draw_case(n, "train", **fixed).parts[0].slides]
    pool = list(build_pool(tmp_path, specs, 2))
    for kind in KINDS:
        shortcut = train_shortcut(kind, pool, steps=5)
        assert 0 <= right_diagnosis(shortcut, pool) <= 1
    said = said_by(train_shortcut("thumbnail", pool, steps=5), ORGANS[0], [PatchStore(s.store) for s in pool])
    assert said.specimen == "Colon, biopsy"
    assert said.diagnoses[0] in {d.text for d in ORGANS[0].diagnoses}


def test_the_recipe_runs_and_its_checkpoint_writes(tmp_path: Path) -> None:
    import wsi_pipeline as wp

    figures = train(tmp_path / "pool", tmp_path / "model", QUICK, workers=2)
    assert figures["parameters"] < 2.5e6
    weights = tmp_path / "model/model.safetensors"
    assert weights.stat().st_size < 10e6
    write_cases(tmp_path / "slides", [draw_case(2, "test", slides=1, extent="focal", **SMALL)])
    (outcome,) = wp.run(tmp_path / "slides", tmp_path / "out", model=str(tmp_path / "model"), max_new_tokens=20)
    assert outcome.status == "done"
    # stopped behind the first cycle of the writer: what was learnt before is not learnt again, and nothing differs
    max((tmp_path / "pool").glob("writer-*.pt"), key=lambda file: file.stat().st_mtime_ns).unlink()
    seen: list[str] = []
    with listening(lambda event: seen.append(event.name)):
        train(tmp_path / "pool", tmp_path / "again", QUICK, workers=2)
    assert "train.sheets" not in seen
    assert digest(tmp_path / "again/model.safetensors") == digest(weights)
