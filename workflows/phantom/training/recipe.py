"""How much of what the phantom checkpoint is trained on, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Sizes of a training run; the defaults are those of the shipped checkpoint, which was not made in one go.

    Its tower and first cycles are of an earlier day (`docs/decisions/0013-phantom-3.md`).
    """

    lesion_sheets: int = 2600
    mimic_sheets: int = 2400
    tower: tuple[tuple[int, float], ...] = ((15_000, 1e-3),)
    """Steps and highest learning rate of each cycle."""
    views: int = 4
    writer: tuple[tuple[int, float, int, float, float], ...] = (
        (3000, 1.2e-3, 3, 0.25, 0.0),
        (1500, 8e-4, 4, 0.1, 0.0),
        (2000, 8e-4, 4, 0.1, 0.5),
        (2000, 6e-4, 4, 0.1, 0.5),
        (2000, 6e-4, 4, 0.1, 0.5),
        (3000, 6e-4, 2, 0.1, 0.3),
    )
    """The same, every how many steps one is about text alone, the share of large slides in the others, and that of
    parts whose slides count from any number; parts grow over the first two fifths of the first cycle."""
    slides: tuple[tuple[int, int, int], ...] = (
        *((60, 44, 0),) * 4,
        (160, 60, 0),
        (200, 80, 0),
        (200, 80, 16),
    )
    """What each cycle learns from: normal slides per organ, slides of every other diagnosis, and faint ones of those.
    Later ones hold the earlier ones'."""
    exam: int = 200
    seed: int = 0


QUICK = Recipe(
    lesion_sheets=4,
    mimic_sheets=4,
    tower=((10, 1e-3),),
    views=1,
    writer=((16, 1e-3, 3, 0.25, 0.0), (8, 6e-4, 3, 0.25, 0.5)),
    slides=((1, 2, 0), (2, 2, 1)),
    exam=4,
)
"""Runs through every step in a minute or two."""
