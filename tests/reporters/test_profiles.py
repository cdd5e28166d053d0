"""What checkpoints of a family expect."""

from pathlib import Path

import numpy as np
import pytest

from reporters.planning import make_plan
from reporters.profiles import find_profile
from reporters.sequence import Grammar
from tests.reporters.letters import BOI, EOI, SOFT, Letters
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models import find_checkpoint
from wsi_pipeline.settings import ReportSettings


@pytest.mark.parametrize(
    ("name", "family"),
    [("google/medgemma-1.5-4b-it", "medgemma-1.5"), ("google/medgemma-4b-it", "medgemma-1"), ("/x/mine", "gemma-3")],
)
def test_families_are_told_by_name(name: str, family: str, tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "vision_config": {}, "text_config": {"max_position_embeddings": 131072}}
    found = find_profile(name, tmp_path, config)
    assert found.name == family
    assert found.context == 32_768
    assert found.native_tokens == 256


def test_medgemma_windows_hold_126_patches_as_it_was_trained(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "vision_config": {}, "text_config": {"max_position_embeddings": 131072}}
    profile = find_profile("google/medgemma-1.5-4b-it", tmp_path, config)

    class Gemma(Letters):
        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return [1] if text == "\n\n" else [2] * (len(text) // 5)

    grammar = Grammar(Gemma(), profile, BOI, SOFT, EOI)
    made = make_plan({"s": 1000}, profile, grammar, profile.prompt, ReportSettings(max_new_tokens=200), 768, 1.0)
    sizes = [len(w.slides[0].patches) for w in made.windows]
    assert sum(sizes) == 1000
    assert 120 <= max(sizes) <= 126


def test_a_text_only_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="without vision"):
        find_profile("x/y", tmp_path, {"model_type": "gemma3_text"})


def test_the_shipped_checkpoint_has_a_card() -> None:
    checkpoint = find_checkpoint("phantom")
    profile = find_profile("phantom", checkpoint.folder, checkpoint.config)
    assert profile.domain == "phantom"
    assert np.isin([1, 4], profile.trained_tokens).all()
