"""The phantom's cycle on long rows, and the checkpoint it leaves."""

import json
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from reporters.profiles import CARD, Profile
from reporters.training.batches import Collator
from reporters.training.build import Shape, build_model, build_tokenizer
from workflows.phantom.training.language import PROFILE, all_texts
from workflows.phantom.training.lessons import LearntSlide, Lessons
from workflows.phantom.training.long import long_profile, teach_long
from workflows.phantom.training.recipe import LONG, LongCycle, Recipe
from workflows.phantom.training.train import train
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import SHIPPED


def test_long_lessons_have_many_slides_and_as_many_quiet_parts_as_loud_ones(learnt: list[LearntSlide]) -> None:
    cycle = LongCycle(1, 1e-3, row=9000, tokens=6000, slides=20, texts=0.2, large=0.5)
    lessons = list(islice(Lessons(learnt, 4).long(cycle, PROFILE), 150))
    tokenizer = build_tokenizer([PROFILE.opening, PROFILE.closing, *(c.text + (c.instruction or "") for c in lessons)])
    collator = Collator(build_model(Shape(), tokenizer, 0).config, tokenizer, PROFILE)
    assert max(len(collator.written(lesson)) for lesson in lessons) < 8000
    parts = [lesson for lesson in lessons if lesson.tokens]
    assert 0.1 < 1 - len(parts) / len(lessons) < 0.3
    slides = [len(lesson.tokens) for lesson in parts]
    assert {1, 2} < set(slides)
    assert 12 < max(slides) <= 20
    large = [lesson for lesson in parts if sum(map(len, lesson.tokens)) > 600]
    assert len(large) > 10
    ill = [any(patch.mean() > 4 for patches in lesson.tokens for patch in patches) for lesson in large]
    assert 0.25 < np.mean(ill) < 0.75
    for lesson, shows in zip(large, ill, strict=True):
        assert bool(re.search(r"; slides? \d", lesson.text)) == shows


def test_the_cycle_on_long_rows_teaches_and_leaves_a_checkpoint_for_a_cpu(learnt: list[LearntSlide]) -> None:
    """As on a GPU, in short rows under masks."""
    cycle = LongCycle(50, 3e-3, row=1200, tokens=600, slides=13, context=1400, workers=1)
    profile = long_profile(PROFILE, cycle)
    assert (profile.max_slides, profile.context, profile.trained_tokens) == (13, 1400, (1,))
    tokenizer = build_tokenizer(all_texts())
    small = Shape(vision_hidden=8, hidden=16, heads=2, kv_heads=1, head_dim=8, window=20)
    model = build_model(small, tokenizer, 0)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    assert len(teach_long(model, tokenizer, profile, learnt, cycle, 3, "cpu")) == 1
    assert all(layer._compiled_call_impl is None for layer in model.model.language_model.layers)
    changed = {name for name, weights in model.state_dict().items() if not torch.equal(weights, before[name])}
    assert changed
    assert not any("vision_tower" in name for name in changed)


def test_the_shipped_long_checkpoint_is_what_its_recipe_makes() -> None:
    assert LONG.long
    shipped = SHIPPED["phantom-long"]
    assert Profile.model_validate_json((shipped / CARD).read_text()) == long_profile(PROFILE, LONG.long)
    config = json.loads((shipped / "config.json").read_text())
    assert config["text_config"]["max_position_embeddings"] == LONG.long.context


@pytest.mark.parametrize("recipe", [Recipe(), LONG])
def test_what_takes_a_gpu_is_refused_at_once_without_one(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="takes a GPU"):
        train(tmp_path / "pool", tmp_path / "model", recipe)
    assert not list(tmp_path.iterdir())
