"""The bank of encoded slides that needles are composed of: its options, and the bank itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from workflows.checkpoints import Model
from workflows.phantom.measuring.haystack import Bank, build_bank

_OPTIONS = (
    click.option("--bank", type=click.Path(path_type=Path), help="Folder of encoded slides to keep; else temporary."),
    click.option("--bank-seed", default=800_000, show_default=True, help="Of its slides, within the test split."),
    click.option("--normal", default=100, show_default=True, help="Its slides without a lesion, per organ."),
    click.option("--per-lesion", default=8, show_default=True, help="Its slides per diagnosis."),
    click.option("--workers", default=2, show_default=True, help="Processes."),
)


@dataclass(frozen=True)
class BankOptions:
    """Where a bank is, and of what."""

    bank: Path | None
    bank_seed: int
    normal: int
    per_lesion: int
    workers: int

    @contextmanager
    def built(self, model: Model) -> Iterator[tuple[Bank, Path]]:
        """The bank and its folder."""
        with nullcontext(self.bank) if self.bank else tempfile.TemporaryDirectory(prefix="bank-") as name:
            folder = Path(name)
            yield build_bank(folder, model, self.bank_seed, self.normal, self.per_lesion, self.workers), folder


def bank_command(function: Callable[..., None]) -> Callable[..., None]:
    """Options of a bank, given to `function` as `bank`."""

    @wraps(function)
    def gathered(**given: Any) -> None:
        names = ("bank", "bank_seed", "normal", "per_lesion", "workers")
        function(bank=BankOptions(**{name: given.pop(name) for name in names}), **given)

    command: Callable[..., None] = gathered
    for option in _OPTIONS[::-1]:
        command = option(command)
    return command
