"""Run a function in a child process with a time-out and a memory limit.

A segmentation fault, an out-of-memory kill or a stalled network share then ends one slide, not the night.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import psutil

from wsi_pipeline.errors import PipelineError, SlideError
from wsi_pipeline.events import Event, emit, listening

_POLL_S = 0.1
_starting = threading.Lock()
# a fork server starts clean of threads and open slides, and with the tiler loaded a child costs milliseconds
_context = get_context("forkserver")
_context.set_forkserver_preload(["tilers.tile", "tilers.readers.openslide", "tilers.readers.tiffslide"])


def supervised(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    subject: object,
    timeout_s: float,
    memory_gib: float,
    stop: threading.Event | None = None,
) -> None:
    """Call `function(*arguments)` in a child; its events are heard here. Setting `stop` kills it.

    Raises:
        SlideError: the child was killed by a signal, took too long, or took too much memory.
        PipelineError: as raised in the child.
    """
    here, there = _context.Pipe(duplex=False)
    child = _context.Process(target=_child, args=(there, function, arguments), daemon=True)
    with _without_main():
        child.start()
    there.close()
    try:
        _listen(child, here, subject, timeout_s, memory_gib, stop)
    finally:
        if child.is_alive():
            child.kill()
        child.join()
        here.close()


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module while a child starts: it would be run again there, and a user's script is no module."""
    main = sys.modules["__main__"]
    with _starting:
        hidden: dict[str, Any] = {
            name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__
        }
        main.__dict__["__spec__"] = None
        try:
            yield
        finally:
            main.__dict__.update(hidden)


def _listen(
    child: BaseProcess,
    pipe: Connection,
    subject: object,
    timeout_s: float,
    memory_gib: float,
    stop: threading.Event | None,
) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        if stop is not None and stop.is_set():
            raise SlideError(subject, "was stopped")
        if time.monotonic() > deadline:
            raise SlideError(subject, f"took longer than {timeout_s:g} s", "raise --tile-timeout, or check the disk")
        if _resident_gib(child) > memory_gib:
            raise SlideError(subject, f"took more than {memory_gib:g} GiB of memory", "raise --tile-memory")
        if not pipe.poll(_POLL_S):
            continue
        try:
            message = pipe.recv()
        except EOFError:
            child.join()
            raise SlideError(subject, f"the process died ({_how(child.exitcode)})", _DIED) from None
        if isinstance(message, Event):
            emit(message.name, **message.facts)
        elif isinstance(message, PipelineError):
            raise message
        elif message is None:
            return
        else:
            raise SlideError(subject, f"unexpected {message}", "please report this with the slide's format")


_DIED = "the file may be damaged in a way that crashes its decoder; copy or convert it"


def _child(pipe: Connection, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    result: object = None
    try:
        with listening(pipe.send):
            function(*arguments)
    except PipelineError as error:
        result = error
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        result = f"{type(error).__name__} at {place.name}:{place.lineno}: {error}"[:300]
    pipe.send(result)
    pipe.close()


def _resident_gib(child: BaseProcess) -> float:
    try:
        return float(psutil.Process(child.pid).memory_info().rss) / 2**30
    except psutil.Error:
        return 0.0


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"exit code {code}"
