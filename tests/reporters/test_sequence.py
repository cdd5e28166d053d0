"""Ids and kinds of tokens of a sequence, and the arithmetic that charges them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reporters.sequence import uniform
from tests.reporters.letters import BOI, EOI, GRAMMAR, SOFT


def test_one_token_per_patch_is_bare_and_causal() -> None:
    made = GRAMMAR.sequence(uniform([5], 1), "?")
    text = "".join(chr(i) if i < 900 else "#" for i in made.ids)
    assert text == "<S1:####S1:#S1:?>"
    assert not made.types.any()
    assert made.chunk_ends == ((10, 1, 0, 4), (14, 1, 4, 5))


def test_several_tokens_per_patch_are_parted_by_a_marker() -> None:
    made = GRAMMAR.sequence(uniform([1, 1], 4), "?")
    text = "".join(chr(i) if i < 900 else {BOI: "[", SOFT: "#"}[i] for i in made.ids)
    assert text == "<S1:[####S1:S2:[####S2:?>"
    assert (made.ids[made.types == 1] == SOFT).all()
    assert made.types.sum() == 8


def test_native_tokens_are_written_as_gemmas_processor_does() -> None:
    made = GRAMMAR.sequence(uniform([2], 16), "?")
    text = "".join(chr(i) if i < 900 else {BOI: "[", SOFT: "#", EOI: "]"}[i] for i in made.ids)
    image = "\n\n[" + "#" * 16 + "]\n\n"
    assert text == f"<S1:{image}{image}?>"


def test_slides_may_count_from_another_number() -> None:
    made = GRAMMAR.sequence(uniform([5, 1], 1), "?", first_number=9)
    text = "".join(chr(i) if i < 900 else "#" for i in made.ids)
    assert text == "<S9:####S9:#S9:S10:#S10:?>"
    assert [chunk[1] for chunk in made.chunk_ends] == [9, 9, 10]


def test_several_numbers_of_tokens_may_be_mixed() -> None:
    made = GRAMMAR.sequence([[1, 4, 1, 1, 4], [16, 1]], "?")
    text = "".join(chr(i) if i < 900 else {BOI: "[", SOFT: "#", EOI: "]"}[i] for i in made.ids)
    # four patches at T = 1 fill a chunk, two at T = 4, or one of these and two of those
    assert text == "<S1:#[#####S1:#[####S1:S2:\n\n[" + "#" * 16 + "]\n\n#S2:?>"
    assert [chunk[2:] for chunk in made.chunk_ends] == [(0, 3), (3, 5), (5, 7)]
    assert made.grids.tolist() == [1, 4, 1, 1, 4, 16, 1]
    assert made.types[made.soft].tolist() == np.repeat([0, 1, 0, 0, 1, 1, 0], made.grids).tolist()


def test_markers_may_be_left_out_and_places_written() -> None:
    places = [[(0.0, 1.5), (123.44, 2.0)], [(7.0, 0.04)]]
    made = GRAMMAR.laid_out(slide_markers=False, coordinates=True).sequence([[1, 4], [1]], "?", places=places)
    text = "".join(chr(i) if i < 900 else {BOI: "[", SOFT: "#", EOI: "]"}[i] for i in made.ids)
    assert text == "<(000.0, 001.5) #(123.4, 002.0) [####(007.0, 000.0) #?>"
    assert made.chunk_ends == ()


@given(st.lists(st.lists(st.sampled_from([1, 4, 16]), max_size=40), max_size=9), st.booleans(), st.booleans())
def test_the_arithmetic_charges_every_token(slides: list[list[int]], markers: bool, coordinates: bool) -> None:
    grammar = GRAMMAR.laid_out(markers, coordinates)
    places = [[(999.9, float(i)) for i in range(len(slide))] for slide in slides]
    made = grammar.sequence(slides, "instruction", places=places)
    assert grammar.length(slides, "instruction") == len(made.ids)
    assert len(made.soft) == sum(map(sum, slides)) == made.grids.sum()
    assert (made.ids[made.soft] == SOFT).all()
