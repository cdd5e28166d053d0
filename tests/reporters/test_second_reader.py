"""What patches show one by one, held against what is said of their slides."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reporters.schema import Finding, Sentence
from reporters.second_reader import PatchClassifier, SecondReader, find_second_reader, save_second_reader
from tests.store.test_store import TOKEN_FACTS
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import SECOND_READER
from wsi_pipeline.store.tokens import TokenStore, TokenWriter

CLASSES = [
    ("Skin", "Normal skin"),
    ("Skin", "Melanoma"),
    ("Skin", "Naevus"),
    ("Lung", "Normal lung"),
    ("Lung", "Tumour"),
]
DIM = 8


@pytest.fixture
def reader(tmp_path: Path) -> SecondReader:
    """Class k scores what dimension k holds, from 1 on at a slope of 1."""
    classifier = PatchClassifier(DIM, len(CLASSES))
    with torch.no_grad():
        for tensor in classifier.parameters():
            tensor.zero_()
        for k in range(len(CLASSES)):
            classifier.first.weight[k, k] = classifier.last.weight[k, k] = 2.0
    save_second_reader(tmp_path, classifier, CLASSES)
    found = find_second_reader(tmp_path)
    assert found is not None
    return found


def store(path: Path, *shown: int) -> TokenStore:
    """A slide of patches of which each shows one class in one of its four tokens; the others are of nothing."""
    tokens = np.full((len(shown), 4, DIM), 0, np.float32)
    tokens[..., DIM - 1] = 1
    for patch, k in enumerate(shown):
        tokens[patch, patch % 4, k] = 3
    writer = TokenWriter(path, len(shown), 4, DIM, "float32")
    writer.append(tokens)
    writer.close(TOKEN_FACTS)
    return TokenStore(path)


def line(slide: str, text: str) -> Finding:
    return Finding(id="F1", slides=(slide,), patches=3, sentences=(Sentence(text=text, evidence=(), method="none"),))


def test_a_line_that_patches_bear_out_is_backed_and_another_is_not(reader: SecondReader, tmp_path: Path) -> None:
    tokens = {"ill": store(tmp_path / "a", 7, 1, 7), "well": store(tmp_path / "b", 7, 7, 7)}
    told = {
        text: reader.backing([line("ill", text), line("well", "Normal skin")], "Skin, shave biopsy", tokens)
        for text in ("Melanoma; focal", "Naevus", "Normal skin", "Something else")
    }
    assert told["Melanoma; focal"] == pytest.approx(0, abs=1e-5)  # of the healthy slide, where nothing shows
    assert reader.backing([line("ill", "Melanoma; focal")], "Skin, shave biopsy", tokens) > 5
    assert told["Naevus"] < -5
    assert told["Normal skin"] < -5
    assert told["Something else"] == -5


def test_the_least_borne_out_line_counts(reader: SecondReader, tmp_path: Path) -> None:
    tokens = {"a": store(tmp_path / "a", 1), "b": store(tmp_path / "b", 2)}
    both = [line("a", "Melanoma"), line("b", "Melanoma")]
    alone = [reader.backing([one], "Skin", tokens) for one in both]
    assert alone[0] > 0 > alone[1]
    assert reader.backing(both, "Skin", tokens) == alone[1]


def test_only_what_the_specimen_may_show_is_asked(reader: SecondReader, tmp_path: Path) -> None:
    tokens = {"a": store(tmp_path / "a", 4)}  # a tumour of the lung
    assert reader.backing([line("a", "Normal skin")], "Skin", tokens) == pytest.approx(0, abs=1e-5)
    assert reader.backing([line("a", "Normal lung")], "Lung, wedge", tokens) < -5


def test_where_something_is_not_known_nothing_is_told(reader: SecondReader, tmp_path: Path) -> None:
    tokens = {"a": store(tmp_path / "a", 1)}
    assert reader.backing([line("a", "Melanoma")], "Kidney", tokens) is None
    assert reader.backing([line("a", "Melanoma")], None, tokens) is None
    assert reader.backing([], "Skin", tokens) is None
    assert reader.backing([line("b", "Melanoma")], "Skin", tokens) is None


def test_another_one_has_another_fingerprint_and_a_file_that_is_none_is_refused(
    reader: SecondReader, tmp_path: Path
) -> None:
    other = PatchClassifier(DIM, len(CLASSES))
    save_second_reader(tmp_path, other, CLASSES)
    found = find_second_reader(tmp_path)
    assert found is not None
    assert found.classes == reader.classes
    assert found.fingerprint != reader.fingerprint
    (tmp_path / SECOND_READER).write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match="is no second reader"):
        find_second_reader(tmp_path)
    (tmp_path / SECOND_READER).unlink()
    assert find_second_reader(tmp_path) is None
