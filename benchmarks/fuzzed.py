"""Damaged copies of slides, a batch of them in a child process each, and how each ended."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import machine
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tilers.fuzzing import mutate

_BATCH = 100
_STALLED_S = 120

Whole = TypeVar("Whole")


def count_outcomes(
    slides: Sequence[Path],
    whole_of: Callable[[Path], Whole],
    outcome_of: Callable[[Path, Whole], str],
    seed: int,
    inputs: int,
    folder: Path,
) -> Counter[str]:
    """Every hundred inputs run in a child process, so that a crash of a decoder is counted and not suffered.

    Args:
        slides: to be damaged, in turns.
        whole_of: what the undamaged slide gives.
        outcome_of: of a damaged one beside that, in words.
        seed: of the first input.
        inputs: how many.
        folder: for damaged slides.
    """
    originals = [(slide.read_bytes(), whole_of(slide)) for slide in slides]

    def run(seeds: range, pipe: Connection) -> None:
        for number in seeds:
            data, whole = originals[number % len(originals)]
            path = folder / f"{number}.svs"
            path.write_bytes(mutate(np.random.default_rng(number), data))
            outcome = outcome_of(path, whole)
            finding = outcome.split()[0].rstrip(":").isupper()
            pipe.send(f"{outcome}, at seed {number}" if finding else outcome)
            path.unlink()

    counts: Counter[str] = Counter()
    for first in range(seed, seed + inputs, _BATCH):
        here, there = get_context("fork").Pipe(duplex=False)
        seeds = range(first, min(first + _BATCH, seed + inputs))
        child = get_context("fork").Process(target=run, args=(seeds, there))
        child.start()
        there.close()
        for number in seeds:
            if not here.poll(_STALLED_S):
                counts[f"STALLED at seed {number}"] += 1
                break
            try:
                counts[here.recv()] += 1
            except EOFError:
                counts[f"CRASHED at seed {number}"] += 1
                break
        child.kill()
        child.join()
    return counts


def print_counts(what: str, slides: str, seed: int, seconds: float, counts: Counter[str]) -> None:
    """The table of both scripts."""
    print(f"{what}, {sum(counts.values())} damaged inputs of {slides}, seed {seed}, {seconds:.0f} s")
    print(machine.describe())
    for outcome, number in counts.most_common():
        print(f"  {number:>7}  {outcome}")
