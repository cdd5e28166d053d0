"""Which seed is for what: no slide a model was tuned on can be in a test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "calibration", "test", "demo"]

SEEDS: dict[Split, range] = {
    "train": range(0, 1_000_000),
    "calibration": range(1_000_000, 2_000_000),
    "test": range(2_000_000, 3_000_000),
    "demo": range(3_000_000, 3_001_000),
}
"""Case seeds by purpose."""

PARTS, SLIDES = 26, 64
"""Parts of a case and slides of a part that have seeds of their own."""


def case_seed(seed: int, split: Split) -> int:
    """The seed of a split's case number `seed`, from 0.

    Raises:
        ValueError: the split has no such case.
    """
    if not 0 <= seed < len(SEEDS[split]):
        raise ValueError(f"seed {seed} is outside the {split} range of {len(SEEDS[split])} seeds")
    return SEEDS[split][seed]


def slide_seed(case: int, part: int, slide: int) -> int:
    """The seed of one slide; slides of different cases never share one.

    Raises:
        ValueError: a case has no such part, or a part no such slide, with a seed of its own.
    """
    if not (0 <= part < PARTS and 0 <= slide < SLIDES):
        raise ValueError(
            f"slide {slide + 1} of part {part + 1} has no seed: there are {SLIDES} slides in {PARTS} parts"
        )
    return (case * PARTS + part) * SLIDES + slide


def split_of(slide: int) -> Split:
    """The split a slide's seed belongs to.

    Raises:
        ValueError: to none.
    """
    case = slide // (PARTS * SLIDES)
    for split, seeds in SEEDS.items():
        if case in seeds:
            return split
    raise ValueError(f"slide seed {slide} belongs to no split")


def require(split: Split, slides: Iterable[int]) -> None:
    """Refuse slides of another split.

    Raises:
        ValueError: naming the first.
    """
    for seed in slides:
        if (found := split_of(seed)) != split:
            raise ValueError(f"slide seed {seed} belongs to the {found} split and must not be used for {split}")
