"""The direct reader on files damaged at random: none of it escapes as an exception, or crashes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tissue_image
from tests.tilers.fuzzing import mutate, outcome_of, pixels_of
from tests.tilers.tiffs import LAYOUTS, write_tiff


def test_no_damage_escapes_or_crashes(tmp_path: Path) -> None:
    slides = [write_tiff(tmp_path / f"{k}.svs", tissue_image(500, 600), name, 240) for k, name in enumerate(LAYOUTS)]
    outcomes = outcomes_of(slides, 210, tmp_path)
    assert "ESCAPED" not in outcomes
    assert outcomes["partly read, the same pixels"] > 30
    assert outcomes["refused by the direct reader"] + outcomes["refused by a library"] > 3


@pytest.mark.shared
def test_no_damage_of_a_real_slide_escapes_or_crashes(real_slides: Path, tmp_path: Path) -> None:
    outcomes = outcomes_of([real_slides / "tiff/packer_example.tif"], 24, tmp_path)
    assert "ESCAPED" not in outcomes
    assert len(outcomes) > 1


def outcomes_of(slides: list[Path], inputs: int, folder: Path) -> Counter[str]:
    """`benchmarks/fuzz_direct.py` is the long version of this."""
    outcomes: Counter[str] = Counter()
    originals = [(path.read_bytes(), pixels_of(path)) for path in slides]
    for seed in range(inputs):
        path = folder / "damaged.svs"
        data, pixels = originals[seed % len(originals)]
        path.write_bytes(mutate(np.random.default_rng(seed), data))
        outcomes[outcome_of(path, pixels).split(":")[0]] += 1
    return outcomes
