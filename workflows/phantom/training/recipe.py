"""How much of what the phantom checkpoint is trained on, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reporters.training.build import Shape
from workflows.phantom.pathology import ORGANS

STREAMS = 2
"""Batches per step on a CPU, a core for each; part of the recipe, whatever the machine has."""
CONTEXT = 8192
"""Tokens that the checkpoint is made for."""
_SHAPE = Shape(pixels=168, vision_layers=6, context=CONTEXT)


@dataclass(frozen=True)
class TowerCycle:
    """One rise and fall of the tower's learning rate.

    Attributes:
        steps: how many.
        rate: highest.
        batch: patches of a step, or of each of its two batches on a CPU.
    """

    steps: int
    rate: float
    batch: int


@dataclass(frozen=True)
class Cycle:
    """One rise and fall of the writer's learning rate.

    Attributes:
        steps: how many.
        rate: highest.
        slides: what it learns from: normal slides per organ, slides of every other diagnosis, and faint ones of those.
            Later cycles hold the earlier ones'.
        texts: every how many steps one is about text alone.
        large: share of the others that is one part of many patches.
        patches: of those parts at the most, at T = 1 and 4.
        anywhere: share of parts whose slides count from any number.
        shrunk: share of focal lesions of which some patches are left out, down to a single one.
        noise, whole: as of `Lessons`.
    """

    steps: int
    rate: float
    slides: tuple[int, int, int]
    texts: int = 4
    large: float = 0.1
    patches: tuple[int, int] = (480, 200)
    anywhere: float = 0.5
    shrunk: float = 0.0
    noise: float = 0.06
    whole: float = 0.3


@dataclass(frozen=True)
class LongCycle:
    """One rise and fall of the writer's learning rate on long rows of packed cases, for which it takes a GPU.

    Attributes:
        steps: how many, of a row each.
        rate: highest.
        row: tokens of a row.
        tokens: of the longest part, before its report.
        context: what the checkpoint is made for then, report included.
        slides: of the largest part.
        texts: share of cases that are text alone.
        large: share that is a part of many patches.
        anywhere, shrunk: as of `Cycle`.
        quiet: share of parts of many patches without any finding, beside those that are drawn without.
        workers: processes that compose rows, each with a seed of its own.
        settle: a cycle of usual parts behind it, on the CPU; stronger noise makes patches that are known by heart
            worth less.
    """

    steps: int
    rate: float
    row: int = 65_536
    tokens: int = 56_000
    context: int = 61_440
    slides: int = 50
    texts: float = 0.15
    large: float = 0.1
    anywhere: float = 0.3
    shrunk: float = 0.5
    quiet: float = 0.35
    workers: int = 14
    settle: Cycle = Cycle(450, 4e-4, (200, 80, 0), texts=8, anywhere=0.3, noise=0.3, whole=0.0)


@dataclass(frozen=True)
class Recipe:
    """Sizes of a training run; the defaults give the shipped checkpoint.

    Attributes:
        device: where the tower learns, and encodes where it can. On a CPU `STREAMS` batches make a step; they always do
            where the writer learns.
        shape: of the model.
        lesion_sheets, mimic_sheets: what the tower learns from.
        tower: its cycles.
        faint: slides of every diagnosis but the benign ones whose lesions are fainter than the writer's: for the second
            reader, which is to doubt where the writer sees nothing.
        second_reader: its steps.
        views: ways in which a slide is turned and stained for the writer, the first of them as scanned.
        writer: its cycles. Parts grow over the first two fifths of the first one.
        long: a cycle more, on long rows.
        exam: reports of each kind that the writer is examined with.
        organs: whose slides the writer learns from; the tower always learns all.
        seed: of everything.
    """

    device: str = "cuda"
    shape: Shape = _SHAPE
    lesion_sheets: int = 3000
    mimic_sheets: int = 3000
    tower: tuple[TowerCycle, ...] = (TowerCycle(3800, 2e-3, 1024),)
    faint: int = 16
    second_reader: int = 1500
    views: int = 4
    writer: tuple[Cycle, ...] = (
        Cycle(3000, 1.2e-3, (60, 44, 0), texts=3, large=0.25, anywhere=0.0),
        Cycle(3000, 8e-4, (200, 80, 0)),
        Cycle(1500, 6e-4, (200, 80, 0), texts=2, anywhere=0.3, noise=0.1),
        Cycle(2500, 8e-4, (200, 80, 0), texts=1),
        Cycle(3000, 6e-4, (200, 80, 0), texts=2, anywhere=0.3),
        Cycle(2000, 6e-4, (200, 80, 0), anywhere=0.3),
    )
    long: LongCycle | None = None
    exam: int = 200
    organs: tuple[str, ...] = tuple(organ.name for organ in ORGANS)
    seed: int = 0


CPU = Recipe(
    device="cpu",
    shape=Shape(context=CONTEXT),
    lesion_sheets=2600,
    mimic_sheets=2400,
    tower=(TowerCycle(15_000, 1e-3, 24),),
    writer=(
        Cycle(3000, 1.2e-3, (60, 44, 0), texts=3, large=0.25, anywhere=0.0),
        Cycle(1500, 8e-4, (60, 44, 0), anywhere=0.0),
        Cycle(2000, 8e-4, (60, 44, 0)),
        Cycle(2000, 6e-4, (60, 44, 0)),
        Cycle(2000, 6e-4, (160, 60, 0)),
        Cycle(3000, 6e-4, (200, 80, 0), texts=2, anywhere=0.3),
    ),
)
"""The smaller checkpoint before, from beginning to end in some three hours on two cores."""
LONG = replace(CPU, long=LongCycle(4000, 8e-4))
"""As `CPU`, and two cycles more, one of them on long rows: some eight minutes on an H200, and six on two cores."""
QUICK = replace(
    CPU,
    lesion_sheets=3,
    mimic_sheets=3,
    tower=(TowerCycle(4, 1e-3, 24),),
    faint=1,
    second_reader=4,
    views=2,
    writer=(
        Cycle(8, 1e-3, (1, 2, 0), texts=3, large=0.25, anywhere=0.0),
        Cycle(4, 6e-4, (2, 2, 0), texts=3, large=0.25, patches=(30, 20), shrunk=0.5),
    ),
    exam=2,
    organs=("Prostate",),
)
"""Runs through every step in a minute."""
