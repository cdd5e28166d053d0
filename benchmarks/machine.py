"""What a benchmark ran on, in one line."""

from __future__ import annotations

import os
import platform
import threading
from types import TracebackType

import psutil

from tilers.tile import ALGORITHM
from workflows.phantom.pathology import VERSION
from wsi_pipeline.models import find_checkpoint


def describe() -> str:
    """Processor, cores, memory, Python, and the versions that decide what slides are and how they are tiled."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    plural = "" if cores == 1 else "s"
    memory = psutil.virtual_memory().total / 2**30
    versions = f"Python {platform.python_version()}, phantom {VERSION}, tiling {ALGORITHM}"
    return f"{_processor()}, {cores} core{plural}, {memory:.0f} GiB, {versions}"


def model(name: str) -> str:
    """A checkpoint with its revision."""
    return f"{name} ({find_checkpoint(name).revision})"


class PeakMemory:
    """The most, seen twice a second, that this process and all below it hold; what they share counts twice."""

    def __enter__(self) -> PeakMemory:
        self.gib = self._lately = 0.0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._watcher.join()

    def lately(self) -> float:
        """The most since this was last asked."""
        most, self._lately = self._lately, 0.0
        return most

    def _watch(self) -> None:
        this = psutil.Process()
        while not self._over.wait(0.5):
            total = 0
            for process in (this, *this.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.gib = max(self.gib, total / 2**30)
            self._lately = max(self._lately, total / 2**30)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
