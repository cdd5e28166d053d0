"""How much of what the phantom checkpoint is trained on, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Sizes of a training run; the defaults made the shipped checkpoint."""

    benign: int = 60
    per_lesion: int = 44
    lesion_sheets: int = 2600
    mimic_sheets: int = 2400
    tower: tuple[tuple[int, float], ...] = ((12_000, 1e-3), (4500, 8e-4))
    """Steps and highest learning rate of each cycle."""
    views: int = 4
    writer: tuple[tuple[int, float, int], ...] = ((3000, 1.2e-3, 3), (1500, 8e-4, 2))
    """The same, and every how many steps one is about text alone; parts grow over the first two fifths of the first."""
    exam: int = 200
    seed: int = 0


QUICK = Recipe(
    benign=2,
    per_lesion=2,
    lesion_sheets=4,
    mimic_sheets=4,
    tower=((10, 1e-3), (10, 1e-3)),
    views=1,
    writer=((16, 1e-3, 3), (8, 6e-4, 2)),
    exam=4,
)
"""Runs through every step in a minute or two."""
