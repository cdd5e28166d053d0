"""One process per case: a lock file with a heartbeat."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex})
    while not _acquire(path, mine):
        if _remove_if_stale(path):
            continue
        if time.monotonic() >= deadline:
            raise CaseBusyError(path.parent.name, f"is worked on by {_holder(path)}", "wait for it to end")
        time.sleep(min(1.0, HEARTBEAT_S / 10))
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, mine, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if _text(path) == mine:
            path.unlink(missing_ok=True)


def _acquire(path: Path, mine: str) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except OSError as error:
        raise disk_error(path, error) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(mine)
    return True


def _remove_if_stale(path: Path) -> bool:
    """Take a dead holder's lock away; whether another try to acquire is worth it."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return True  # released meanwhile
    judged = _text(path)
    holder = _read(judged)
    same_host = holder.get("host") == socket.gethostname()
    dead = same_host and not psutil.pid_exists(int(str(holder.get("pid", 0))))
    if not (dead or age > STALE_AFTER_S):
        return False
    # move it aside, then look: another process may have taken it over since it was judged
    aside = path.with_name(f"{path.name}.partial-stale-{uuid.uuid4().hex[:8]}")
    try:
        path.rename(aside)
        if _text(aside) != judged:
            os.link(aside, path)
        aside.unlink()
    except OSError:
        pass
    return True


def _beat(path: Path, mine: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with suppress(OSError):  # a share that stalls once must not make a live lock look dead for ever
            if _text(path) == mine:
                os.utime(path)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _read(text: str) -> dict[str, object]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _holder(path: Path) -> str:
    holder = _read(_text(path))
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
