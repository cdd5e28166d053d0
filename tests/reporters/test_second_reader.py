"""What patches show one by one, held against what is said of their slides."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reporters.plan import SlideShare, Window
from reporters.schema import Finding, Sentence
from reporters.second_reader import PatchClassifier, SecondReader, find_second_reader, save_second_reader
from tests.store.test_store import TOKEN_FACTS
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import SECOND_READER, second_reader_of
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


def backing(reader: SecondReader, specimen: str | None, tokens: dict[str, TokenStore], **said: str) -> float:
    """Of a line about each slide, all of whose patches were read."""
    findings = [
        Finding(id="F1", slides=(slide,), patches=3, sentences=(Sentence(text=text, evidence=(), method="none"),))
        for slide, text in said.items()
    ]
    read = Window(slides=tuple(SlideShare(slide=s, patches=tuple(range(len(t)))) for s, t in tokens.items()), tokens=9)
    return reader.backing(findings, specimen, read, tokens)


def test_a_line_that_patches_bear_out_is_backed_and_another_is_not(reader: SecondReader, tmp_path: Path) -> None:
    tokens = {"a": store(tmp_path / "a", 7, 1, 7)}
    assert backing(reader, "Skin, shave biopsy", tokens, a="Melanoma; focal") > 5
    for text in ("Naevus", "Normal skin"):
        assert backing(reader, "Skin, shave biopsy", tokens, a=text) < -5


def test_the_least_borne_out_line_counts(reader: SecondReader, tmp_path: Path) -> None:
    tokens = {"a": store(tmp_path / "a", 1), "b": store(tmp_path / "b", 2)}
    right, wrong = (backing(reader, "Skin", {slide: tokens[slide]}, **{slide: "Melanoma"}) for slide in "ab")
    assert right > 0 > wrong
    assert backing(reader, "Skin", tokens, a="Melanoma", b="Melanoma") == wrong


def test_only_what_the_specimen_may_show_is_asked(reader: SecondReader, tmp_path: Path) -> None:
    tokens = {"a": store(tmp_path / "a", 4)}  # a tumour of the lung
    assert backing(reader, "Skin", tokens, a="Normal skin") == pytest.approx(0, abs=1e-5)
    assert backing(reader, "Lung, wedge", tokens, a="Normal lung") < -5


def test_only_patches_that_were_read_are_asked(
    reader: SecondReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reporters.second_reader._AT_ONCE", 8)  # two patches at a time
    tokens = {"a": store(tmp_path / "a", 7, 7, 7, 7, 1)}
    said = [
        Finding(
            id="F1", slides=("a",), patches=4, sentences=(Sentence(text="Normal skin", evidence=(), method="none"),)
        )
    ]
    told = [
        reader.backing(said, "Skin", Window(slides=(SlideShare(slide="a", patches=read),), tokens=9), tokens)
        for read in ((0, 1, 3), (3, 0, 4))
    ]
    assert told[0] == pytest.approx(0, abs=1e-5)
    assert told[1] < -5


def test_what_it_does_not_know_is_not_borne_out(reader: SecondReader, tmp_path: Path) -> None:
    tokens = {"a": store(tmp_path / "a", 1)}
    assert backing(reader, "Kidney", tokens, a="Melanoma") == -5
    assert backing(reader, None, tokens, a="Melanoma") == -5
    assert backing(reader, "Skin", tokens, a="Something else") == -5
    assert backing(reader, "Skin", tokens) == -5  # no line at all


def test_another_one_has_another_fingerprint(reader: SecondReader, tmp_path: Path) -> None:
    before = second_reader_of(tmp_path)
    save_second_reader(tmp_path, reader.classifier, reader.classes)
    assert second_reader_of(tmp_path) == before
    save_second_reader(tmp_path, PatchClassifier(DIM, len(CLASSES)), CLASSES)
    found = find_second_reader(tmp_path)
    assert found is not None
    assert (found.classes, found.dim) == (reader.classes, DIM)
    assert second_reader_of(tmp_path) != before


@pytest.mark.parametrize("damage", [b"", b"no weights at all", b"PK\x03\x04"])
def test_a_file_that_is_none_is_refused(reader: SecondReader, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / SECOND_READER).write_bytes(damage)
    with pytest.raises(ModelError, match="is no second reader"):
        find_second_reader(tmp_path)
    (tmp_path / SECOND_READER).unlink()
    assert (find_second_reader(tmp_path), second_reader_of(tmp_path)) == (None, None)
