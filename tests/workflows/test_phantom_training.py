"""What the phantom checkpoint learns from, and the recipe itself."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reporters.training.build import Shape, build_model, build_tokenizer
from reporters.training.tower import CellClassifier
from reporters.training.writer import WriterTrainer
from tests.workflows.conftest import SMALL, digest
from workflows.phantom.drawing.cohort import MAX_SLIDES, draw_case, write_cases
from workflows.phantom.drawing.contents import CONTENTS, artefact, mimic_of
from workflows.phantom.drawing.pool import pool_specs
from workflows.phantom.pathology import ORGANS
from workflows.phantom.seeds import case_seed
from workflows.phantom.training.examples import examples
from workflows.phantom.training.kept import kept_at, sizes
from workflows.phantom.training.labels import Labelled, cell_targets, number_of
from workflows.phantom.training.language import PROFILE
from workflows.phantom.training.lessons import LearntSlide, Lessons
from workflows.phantom.training.recipe import QUICK, Cycle
from workflows.phantom.training.sheets import LESIONS, Sheets, draw_sheet, make_sheets, read_sheets
from workflows.phantom.training.teach_second_reader import teach_second_reader
from workflows.phantom.training.train import train
from workflows.phantom.wording import merged_report
from wsi_pipeline.events import listening
from wsi_pipeline.models.checkpoint import SECOND_READER
from wsi_pipeline.models.pixels import pool_grid


def test_patches_of_sheets_take_their_truth_along() -> None:
    """Sheets whose grey level is their content: however patches are cut, turned and mixed, the two must still agree."""
    kinds = torch.tensor([0, 1, 5, mimic_of(2), artefact("blood"), artefact("blur")])
    content = kinds.view(-1, 1, 1).expand(-1, 98, 98).clone()
    content[:, 49:] = kinds.flip(0).view(-1, 1, 1)
    images = (20 + 10 * content).to(torch.uint8)[..., None].expand(-1, -1, -1, 3)
    sheets = Sheets(images.numpy(), np.zeros(len(kinds), np.int64), content.to(torch.uint8).numpy())
    shares = torch.nn.functional.one_hot(kinds, CONTENTS).float()[:, None, None].expand(-1, 4, 4, -1)
    plain = (20 + 10 * kinds).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 28, 28, 3)
    (whole,) = cell_targets(Labelled(plain, torch.zeros_like(kinds), shares), (1,)).values()
    classes = whole[:, 0].argmax(-1)
    assert len(set(classes.tolist())) == len(kinds)
    pixels, targets = next(examples(sheets, 28, (1, 4), batch=256, seed=0))
    quarters = pixels.mean(1).unflatten(2, (2, -1)).unflatten(1, (2, -1)).movedim(3, 2).flatten(3).flatten(1, 2)
    nearest = (quarters.mean(-1)[..., None] - (plain[:, 0, 0, 0].float() / 127.5 - 1)).abs().argmin(-1)
    even = quarters.std(-1) < 1e-3  # no border runs through this quarter
    assert even.float().mean() > 0.5
    assert (targets[4].argmax(-1) == classes[nearest])[even].float().mean() > 0.9  # stain is varied, too
    assert (quarters.mean(-1).std(1) > 0.01).float().mean() > 0.3
    assert torch.allclose(targets[1].sum(-1), torch.ones(256, 1))


def test_the_tower_learns_from_what_its_checkpoint_will_see() -> None:
    torch.manual_seed(0)
    tower = build_model(
        Shape(pixels=56, vision_hidden=8, vision_layers=2), build_tokenizer(["a"]), 0
    ).model.vision_tower
    classifier = CellClassifier(tower, 8, 5).eval()
    pixels = torch.rand(2, 3, 56, 56) * 2 - 1
    with torch.inference_mode():
        logits, _ = classifier(pixels, (1, 4))
        seen = pool_grid(tower(pixel_values=pixels).last_hidden_state, 4)
        torch.testing.assert_close(logits[4], classifier.head(torch.nn.functional.rms_norm(seen, seen.shape[-1:])))


def test_a_sheet_shows_what_its_content_says_where_it_says_it() -> None:
    pen = np.zeros((1, 1), bool)
    for n in range(60):
        image, _, content = draw_sheet(case_seed(LESIONS.first + n, "train"), LESIONS, 392)
        pen = content == artefact("pen")
        if pen.mean() > 0.01:
            break
    dark = 255 - image.min(2).astype(float)
    for moved in (np.roll(pen, 28, 0), np.roll(pen, -28, 1), pen.T, pen[::-1]):
        assert dark[moved & ~pen].mean() < dark[pen].mean() - 20


def test_sheets_of_another_crowd_are_not_taken_for_those_that_are_there(tmp_path: Path) -> None:
    crowds = [LESIONS, replace(LESIONS, mimics=(6, 7))]
    files = [file for crowd in crowds for file in make_sheets(tmp_path, "train", crowd, 1, 28, 1)]
    assert files[0] != files[1]
    first, other = (read_sheets([file], 1).images for file in files)
    assert not np.array_equal(first, other)
    assert list(make_sheets(tmp_path, "train", LESIONS, 1, 28, 1)) == files[:1]


NO_TEXT = Cycle(1, 1e-3, (1, 1, 0), texts=1000, patches=(90, 40))


def test_slides_of_a_lesson_count_from_any_number(learnt: list[LearntSlide]) -> None:
    stream = Lessons(learnt, 2).stream(replace(NO_TEXT, large=0.0), PROFILE)
    numbers: Counter[int] = Counter()
    for lesson in (lesson for _ in range(150) for lesson in next(stream)):
        told = [int(n) for n in re.findall(r"^Slide (\d+):", lesson.text, re.MULTILINE)]
        assert told == list(range(lesson.first_number, lesson.first_number + len(lesson.tokens)))
        named = {int(n) for line in re.findall(r"; slides? (.*)", lesson.text) for n in line.split(", ")}
        ill = {n for n, rows in zip(told, lesson.tokens, strict=True) if any(row.mean() > 4 for row in rows)}
        assert named == ill
        numbers.update(told)
    assert numbers.keys() == set(range(1, MAX_SLIDES + 1))
    assert max(numbers.values()) < 5 * min(numbers.values())


def test_lessons_may_be_large_and_mix_two_grids(learnt: list[LearntSlide]) -> None:
    lessons = Lessons(learnt, 1)
    fine: dict[bool, list[bool]] = {False: [], True: []}
    for _ in range(30):
        lesson = lessons.part(3, (1, 4), most=90)
        assert lesson.truth
        assert [len(patches) for patches in lesson.tokens] == [len(truth) for truth in lesson.truth.patches]
        assert {len(patch) for patches in lesson.tokens for patch in patches} == {1, 4}
        for patch in (patch for patches in lesson.tokens for patch in patches):
            fine[bool(patch.mean() > 4)].append(len(patch) == 4)
    assert np.mean(fine[True]) > np.mean(fine[False]) + 0.2
    assert max(len(patches) for patches in lessons.part(3, (4,), most=90).tokens) > 20
    assert {len(patch) for patches in lessons.part(2, (4,)).tokens for patch in patches} == {4}


def test_focal_lesions_may_be_a_single_patch(learnt: list[LearntSlide]) -> None:
    lessons = Lessons(learnt, 3)
    parts = [lessons.part(4, (1,), most=40, shrunk=0.5) for _ in range(60)]
    sizes = Counter(sum(patch.mean() > 4 for patch in patches) for lesson in parts for patches in lesson.tokens)
    assert sizes[1] > 5
    assert sizes[2] > sizes[1]


def test_streams_of_one_shape_have_batches_of_one_size(learnt: list[LearntSlide]) -> None:
    one, other = (Lessons(learnt, seed, shapes=5).stream(replace(NO_TEXT, large=0.4), PROFILE) for seed in (1, 2))
    alike = 0
    for _ in range(30):
        batch, beside = next(one), next(other)
        assert [len(lesson.tokens) for lesson in batch] == [len(lesson.tokens) for lesson in beside]
        assert {t.shape for c in batch for s in c.tokens for t in s} == {
            t.shape for c in beside for s in c.tokens for t in s
        }
        alike += [lesson.text for lesson in batch] == [lesson.text for lesson in beside]
    assert alike < 10


def test_a_larger_pool_holds_a_smaller_one_and_faint_lesions_are_faint() -> None:
    small, large = pool_specs("train", 1, 1), pool_specs("train", 1, 1, faint=1, workers=2)
    known = {spec.seed: spec for spec in large}
    assert all(known.pop(spec.seed) == spec for spec in small)
    assert len(known) == sum(len(organ.lesions) for organ in ORGANS)
    assert all(0.3 <= spec.contrast <= 0.8 for spec in known.values())
    assert all(spec.contrast >= 0.8 for spec in small)


def test_concluding_is_learnt_from_given_lines() -> None:
    slides = [LearntSlide(o, d, True, (), *3 * [np.ones(1, bool)]) for o in ORGANS for d in o.diagnoses]
    lesson = Lessons(slides, 0).conclude(5)
    assert lesson.text.startswith(lesson.given)
    assert lesson.given.count("Slide ") == 5
    assert not lesson.text.removeprefix(lesson.given).startswith("Slide ")
    tokenizer = build_tokenizer([lesson.text, PROFILE.opening, PROFILE.prompt, PROFILE.closing])
    trainer = WriterTrainer(build_model(Shape(), tokenizer, 0), tokenizer, PROFILE, 0)
    batch = trainer.collator.padded([lesson])
    assert tokenizer.decode(batch.labels[batch.labels >= 0]) == lesson.text.removeprefix(lesson.given) + "<end_of_turn>"


def test_merging_cites_findings() -> None:
    part = draw_case(3, "test", slides=5, organ="Colon", diagnosis="Hyperplastic polyp", extent="focal").parts[0]
    (finding,) = part.findings
    assert merged_report(part.organ, 5, part.findings).endswith(f"- Hyperplastic polyp [F{finding.slides[0]}]")
    assert merged_report(part.organ, 2, ()).endswith("[F1, F2]")


def test_the_second_reader_learns_what_single_patches_show(learnt: list[LearntSlide]) -> None:
    classifier = teach_second_reader(learnt, 200, 0)
    for slide in learnt:
        nothing, shown = (number_of(slide.organ, d) for d in (slide.organ.benign, slide.diagnosis))
        for grid in (1, 4):
            rows = pool_grid(torch.from_numpy(slide.tokens[0]).float(), grid)
            scores = classifier(rows, torch.full((len(rows),), nothing))
            assert (scores[:, nothing] == 0).all()
            if shown != nothing:
                assert (scores[slide.lesion, shown] > 0).all()
                assert (scores[slide.clear, shown] < 0).all()


def test_the_recipe_runs_and_its_checkpoint_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert digest(tmp_path / "again" / SECOND_READER) == digest(tmp_path / "model" / SECOND_READER)
    # a tower that was taught on a GPU elsewhere, and brought here
    there = replace(QUICK, device="cuda")
    taught, brought = (kept_at(tmp_path / "pool", "tower", sizes(recipe, 1)) for recipe in (QUICK, there))
    taught.rename(brought)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train(tmp_path / "pool", tmp_path / "third", there, workers=2)["recipe"]["device"] == "cuda"
    assert digest(tmp_path / "third/model.safetensors") == digest(weights)
