"""How much of what the phantom checkpoint is trained on, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TowerCycle:
    """One rise and fall of the tower's learning rate.

    Attributes:
        steps, rate: how many, and the highest.
        mimics: whether sheets crowded with mimics are learnt from, too.
    """

    steps: int
    rate: float
    mimics: bool = False


@dataclass(frozen=True)
class Recipe:
    """Sizes of a training run; the defaults made the shipped checkpoint."""

    benign: int = 60
    per_lesion: int = 44
    lesion_sheets: int = 2600
    mimic_sheets: int = 1200
    tower: tuple[TowerCycle, ...] = (TowerCycle(6000, 1e-3), TowerCycle(4500, 1e-3), TowerCycle(5000, 1e-3, True))
    views: int = 4
    writer: tuple[tuple[int, float], ...] = ((2000, 1.2e-3),)
    """Steps and highest rate of each cycle; parts grow over the first two fifths of the first."""
    exam: int = 200
    seed: int = 0


QUICK = Recipe(
    benign=2,
    per_lesion=2,
    lesion_sheets=4,
    mimic_sheets=4,
    tower=(TowerCycle(10, 1e-3), TowerCycle(10, 1e-3, True)),
    views=1,
    writer=((16, 1e-3), (8, 6e-4)),
    exam=4,
)
"""Runs through every step in a minute or two."""
