"""Place the tiling of slides: in child processes here, or on the workers of a dask cluster."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tilers.tile import tile
from workflows.supervise import supervised
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import PipelineError, SlideError, UsageError
from wsi_pipeline.settings import MachineSettings, TileSettings

CONNECT_TIMEOUT = "20s"
_WORKER = "dask worker --no-nanny ADDRESS"
"""Under a nanny a worker is a daemon, and may not have the child process that a slide is tiled in."""


@dataclass(frozen=True)
class TileJob:
    """One slide to tile, where its patches go, and the fingerprint they are named by."""

    slide: Slide
    settings: TileSettings
    final: Path
    fingerprint: str


Ended = tuple[TileJob, PipelineError | None]


def tile_all(jobs: Sequence[TileJob], machine: MachineSettings) -> Iterator[Ended]:
    """Tile every job, `machine.workers` at a time; yield each as it ends, with its error if it failed."""
    if not jobs:
        return
    if machine.dask_scheduler:
        yield from _on_dask(jobs, machine)
        return
    stop = threading.Event()
    with ThreadPoolExecutor(machine.workers) as pool:
        running = [pool.submit(tile_one, job, machine, stop) for job in jobs]
        try:
            for done in as_completed(running):
                yield done.result()
        finally:
            stop.set()  # an interrupt must not wait for slides that take hours
            for waiting in running:
                waiting.cancel()


def tile_one(job: TileJob, machine: MachineSettings, stop: threading.Event | None = None) -> Ended:
    """Tile one slide in a supervised child; errors are returned, so that the others go on."""
    from dask.system import CPU_COUNT  # of this process: affinity and cgroup limits count

    threads = max(1, CPU_COUNT // machine.workers)
    try:
        supervised(
            tile,
            (job.slide, job.settings, job.final, threads, job.fingerprint),
            job.slide.path,
            machine.tile_timeout_s,
            machine.tile_memory_gib,
            stop,
        )
    except PipelineError as error:
        # a child that was killed could not clean up behind itself, and the case is locked
        for leftover in job.final.parent.glob(f"{job.final.name}.partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        return job, error
    return job, None


def _on_dask(jobs: Sequence[TileJob], machine: MachineSettings) -> Iterator[Ended]:
    """Submit paths, not pixels; the workers see the same files. At most four jobs per thread are in flight."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise UsageError("--dask-scheduler", "needs dask.distributed", "pip install 'wsi-pipeline[cluster]'") from None
    try:
        client = Client(machine.dask_scheduler, timeout=CONNECT_TIMEOUT)
    except (OSError, TimeoutError) as error:
        raise UsageError(
            f"--dask-scheduler {machine.dask_scheduler}",
            f"does not answer ({error})",
            "start `dask scheduler`",
        ) from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UsageError(f"--dask-scheduler {machine.dask_scheduler}", "has no workers", f"start `{_WORKER}`")
        waiting = iter(jobs)
        submitted: dict[str, TileJob] = {}

        def submit() -> Any:
            if (job := next(waiting, None)) is None:
                return None
            future = client.submit(tile_one, _absolute(job), machine, pure=False)
            submitted[future.key] = job
            return future

        running = as_completed([f for _ in range(4 * threads) if (f := submit())])
        for done in running:
            if (more := submit()) is not None:
                running.add(more)
            yield _ended(submitted.pop(done.key), done)


def _absolute(job: TileJob) -> TileJob:
    """With paths that mean the same in a worker's working folder."""
    path, mask = (p.absolute() if isinstance(p, Path) else p for p in (job.slide.path, job.slide.mask))
    assert path
    return replace(job, slide=replace(job.slide, path=path, mask=mask), final=job.final.absolute())


def _ended(job: TileJob, future: Any) -> Ended:
    """How a future ended; what a worker died of is the slide's failure, not the case's."""
    error = future.exception()
    if error is None:
        ended: Ended = future.result()
        return ended
    cause = f"was not tiled by a dask worker ({type(error).__name__}: {error})"[:300]
    return job, SlideError(job.slide.path, cause, f"start workers as `{_WORKER}`, with memory enough")
