"""Other answers drawn beside the one written, and how many of them conclude the same."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from reporters.agreement import agreement, of_all
from reporters.sequence import in_memory, uniform
from reporters.writer import Draft, Writer
from wsi_pipeline.models import find_checkpoint


@pytest.fixture(scope="module")
def writer(gemma: Path) -> Writer:
    return Writer(find_checkpoint(str(gemma)), "float32")


def drawn(writer: Writer, most: int, samples: int, seed: int = 0) -> Draft:
    # longer than the window of local layers, whose memory forgets what a sample must find again
    sequence = writer.grammar.sequence(uniform([40], 16), "Describe.")
    features = np.random.default_rng(0).normal(size=(40, 16, 32)).astype(np.float32)
    return writer.write(sequence, in_memory(features), most, samples, seed)


def test_samples_start_where_the_answer_did(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "multinomial", lambda chances, count, generator: chances.argmax()[None])
    found = drawn(writer, 12, 3)
    assert found.samples == (found.text,) * 3


def test_samples_come_as_often_as_they_are_likely_and_again_by_their_seed(writer: Writer) -> None:
    found = drawn(writer, 1, 400)
    share = Counter(found.samples)[found.text] / 400
    chance = float(np.exp(found.logprob))
    assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 400) ** 0.5)
    assert len(set(found.samples)) > 3
    assert drawn(writer, 6, 4).samples == drawn(writer, 6, 4).samples != drawn(writer, 6, 4, seed=1).samples
    assert drawn(writer, 6, 4).text == drawn(writer, 6, 0).text


def said(text: str, *samples: str) -> Draft:
    none = np.zeros(0, np.int64)
    return Draft(text, none, none, none, None, False, samples)


ANSWER = "Slide 1: Polyp\nSlide 2: Benign\nColon, biopsy;\n- Polyp; focal; slide 1"


def test_answers_agree_that_conclude_the_same_whatever_they_say_of_slides() -> None:
    moved = "Slide 1: Benign\nSlide 2: Polyp\nColon, biopsy;\n- Polyp; extensive; slide 2"
    other = "Slide 1: Benign\nSlide 2: Benign\nColon, biopsy;\n- Benign"
    more = ANSWER + "\n- Colitis; slide 2"
    elsewhere = ANSWER.replace("Colon", "Rectum")
    assert agreement(said(ANSWER, moved, other, more, elsewhere, ANSWER)) == 2 / 5


def test_without_samples_or_a_conclusion_nothing_is_known() -> None:
    assert agreement(said(ANSWER)) is None
    assert agreement(said("Glands in sheets.", "Glands in sheets.")) is None
    assert of_all([0.5, None]) is None
    assert of_all([0.5, 0.5, 1.0]) == 0.25
