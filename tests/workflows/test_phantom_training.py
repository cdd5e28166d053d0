"""What the phantom checkpoint learns from, and the recipe itself."""

from pathlib import Path

import numpy as np
import torch

from reporters.training.build import Shape, build_model, build_tokenizer
from reporters.training.writer import WriterTrainer
from tests.workflows.conftest import SMALL, digest
from workflows.phantom.cohort import draw_case, write_cases
from workflows.phantom.contents import CONTENTS, artefact, mimic_of
from workflows.phantom.examples import examples
from workflows.phantom.labels import Labelled, cell_targets
from workflows.phantom.lessons import LearntSlide, Lessons, merged_report
from workflows.phantom.pathology import ORGANS
from workflows.phantom.recipe import QUICK
from workflows.phantom.train import PROFILE, train
from wsi_pipeline.events import listening


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


def test_merging_cites_findings() -> None:
    part = draw_case(3, "test", slides=5, organ="Colon", diagnosis="Hyperplastic polyp", extent="focal").parts[0]
    (finding,) = part.findings
    assert merged_report(part.organ, 5, part.findings).endswith(f"- Hyperplastic polyp [F{finding.slides[0]}]")
    assert merged_report(part.organ, 2, ()).endswith("[F1, F2]")


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
