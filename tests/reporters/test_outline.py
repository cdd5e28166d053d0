"""An answer in lines has one for every slide, whatever the model would rather write."""

import re

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from reporters.outline import Outline
from reporters.sequence import in_memory, uniform
from reporters.writer import Writer
from tests.reporters.letters import Letters
from wsi_pipeline.models import find_checkpoint

END = 127


class Speaking(Letters):
    def decode(self, ids: list[int]) -> str:
        return "".join(chr(i) for i in ids)


def spoken(numbers: list[int], seed: int, most: int = 4000) -> str:
    """What is written at random, words of a letter and line breaks mostly."""
    outline, random = Outline(Speaking(), {END}, numbers), torch.Generator().manual_seed(seed)
    weights = torch.full((128,), -torch.inf)
    for letter, weight in (("a", 4.0), ("S", 1.0), ("\n", 1.0), (chr(END), 0.5)):
        weights[ord(letter)] = np.log(weight)
    text = ""
    for _ in range(most):
        token = int(torch.multinomial(outline.ruled(weights).exp(), 1, generator=random))
        outline.written(token)
        if token == END:
            return text
        text += chr(token)
    raise AssertionError("it never ended")


@given(st.integers(1, 15), st.integers(1, 30), st.integers(0, 1000))
def test_every_slide_has_a_line_in_order_and_none_comes_later(first: int, slides: int, seed: int) -> None:
    numbers = list(range(first, first + slides))
    lines = spoken(numbers, seed).split("\n")
    assert [re.match(r"Slide (\d+):[aS]*$", line)[1] for line in lines[:slides]] == [str(n) for n in numbers]
    assert not any(line.startswith("S") for line in lines[slides:])


def test_a_free_form_is_left_alone() -> None:
    assert not any(line.startswith("Slide") for line in spoken([], 3).split("\n"))
    likely = torch.randn(128)
    assert Outline(Speaking(), {END}, ()).ruled(likely) is likely


def test_the_phantom_writes_a_line_for_every_slide_of_noise() -> None:
    writer = Writer(find_checkpoint("phantom"), "float32")
    noise = np.random.default_rng(0).normal(size=(36, 4, writer.model.config.vision_config.hidden_size))
    sequence = writer.grammar.sequence(uniform([3] * 12, 4), writer.profile.prompt)
    text = writer.write(sequence, in_memory(noise.astype(np.float32)), 400).text
    assert [line.split(":")[0] for line in text.split("\n")[:12]] == [f"Slide {n}" for n in range(1, 13)]
    assert text.count("Slide ") == 12
