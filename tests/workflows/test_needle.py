"""Cases composed from a bank: as large as asked, and decided by exactly the patches that were put in."""

import numpy as np
import pytest

from workflows.checkpoints import Model
from workflows.phantom.needle import READERS, Bank, compose, read
from workflows.phantom.pathology import ORGANS
from wsi_pipeline.settings import ModelSettings


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Normal tokens are negative, those of a lesion positive."""
    rng = np.random.default_rng(0)

    def tokens(n: int, sign: int) -> np.ndarray:
        return sign * (1 + rng.random((n, 4, 128), np.float32))

    normal = {organ.name: [tokens(9, -1), tokens(14, -1)] for organ in ORGANS}
    return Bank(normal, {(o.name, d.text): [tokens(2, 1), tokens(6, 1)] for o in ORGANS for d in o.lesions})


@pytest.mark.parametrize(("patches", "slides"), [(7, 1), (100, 5), (1000, 50), (4000, 50)])
@pytest.mark.parametrize("lesion", [0, 1, 4])
def test_cases_hold_what_was_asked_for(bank: Bank, patches: int, slides: int, lesion: int) -> None:
    for seed in range(5):
        case = compose(bank, np.random.default_rng(seed), patches, lesion)
        assert (case.patches, len(case.slides)) == (patches, slides)
        shown = [np.flatnonzero((rows > 0).all((1, 2))) for rows in case.slides]
        assert sum(map(len, shown)) == lesion
        assert (case.lesion in case.organ.lesions) == bool(lesion)
        if lesion:
            (where,) = (s for s in shown if len(s))
            assert where[-1] - where[0] == lesion - 1


def test_every_reader_reads_and_those_that_see_less_take_less(bank: Bank) -> None:
    model = Model(ModelSettings(name="phantom"))
    case = compose(bank, np.random.default_rng(3), 200, 1)
    tokens = {name: read(model, case, reader, seed=3).tokens for name, reader in READERS.items()}
    everything = tokens["every patch (auto)"]
    assert tokens["a random slide"] <= tokens["126 of one slide"] < tokens["126 shared"] < everything
    assert tokens["126 farthest"] < everything
    assert tokens["joint, T = 1"] < tokens["mixed, by novelty"] < tokens["mixed, two passes"]
    assert tokens["best single slide"] > everything
