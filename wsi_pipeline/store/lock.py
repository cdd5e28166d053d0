"""One process per case: a lock file with a heartbeat."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from wsi_pipeline.errors import CaseBusyError
from wsi_pipeline.store.publish import disk_error

HEARTBEAT_S = 10.0
STALE_AFTER_S = 12 * HEARTBEAT_S


@contextmanager
def locked(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` inside the block.

    A lock whose process is gone (same host) or whose heartbeat stopped (another host) is taken over.

    Args:
        path: the lock file.
        wait_s: how long to wait for another holder.

    Raises:
        CaseBusyError: another process holds it, naming host and process.
    """
    deadline = time.monotonic() + wait_s
    while not _acquire(path):
        if _remove_if_stale(path):
            continue
        if time.monotonic() >= deadline:
            raise CaseBusyError(path.parent.name, f"is worked on by {_holder(path)}", "wait for it to end")
        time.sleep(min(1.0, HEARTBEAT_S / 10))
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        path.unlink(missing_ok=True)


def _acquire(path: Path) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except OSError as error:
        raise disk_error(path, error) from error
    with os.fdopen(descriptor, "w") as file:
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}, file)
    return True


def _remove_if_stale(path: Path) -> bool:
    """Take a dead holder's lock away; whether another try to acquire is worth it."""
    try:
        age = time.time() - path.stat().st_mtime
        holder = _read(path)
    except OSError:
        return True  # released meanwhile
    same_host = holder.get("host") == socket.gethostname()
    dead = same_host and not psutil.pid_exists(int(str(holder.get("pid", 0))))
    if not (dead or age > STALE_AFTER_S):
        return False
    # rename first: of two processes that both judged it stale, one moves it and the other finds nothing
    aside = path.with_name(f"{path.name}.partial-stale-{uuid.uuid4().hex[:8]}")
    try:
        path.rename(aside)
        aside.unlink()
    except OSError:
        pass
    return True


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            os.utime(path)
        except OSError:
            return


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _holder(path: Path) -> str:
    holder = _read(path)
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
