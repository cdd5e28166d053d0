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
from wsi_pipeline.store.publish import disk_error, partial_name

HEARTBEAT_S = 10.0
STALE_AFTER_S = 12 * HEARTBEAT_S
_SAME_PROCESS_S = 60.0


@contextmanager
def locked(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` inside the block.

    A lock whose process is gone (same host) or whose heartbeat stopped (another host) is taken over. A process is
    known by its number and the time it began; containers that do not see each other's processes are other hosts.

    Args:
        path: the lock file.
        wait_s: how long to wait for another holder.

    Raises:
        CaseBusyError: another process holds it, naming host and process.
        StoreError: the disk does not let it be taken.
    """
    deadline = time.monotonic() + wait_s
    began = psutil.Process().create_time()
    mine = json.dumps(_here() | {"pid": os.getpid(), "began": began, "id": uuid.uuid4().hex})
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
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(mine)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise disk_error(path, error) from error
    return True


def _remove_if_stale(path: Path) -> bool:
    """Take a dead holder's lock away; whether another try to acquire is worth it."""
    judged = _text(path)
    holder = _read(judged)
    try:
        stale = not _is_alive(holder) if _here().items() <= holder.items() else _age(path) > STALE_AFTER_S
    except FileNotFoundError:
        return True  # released meanwhile
    except OSError as error:
        raise disk_error(path, error) from error
    if not stale:
        return False
    # move it aside, then look: another process may have taken it over since it was judged
    aside = path.with_name(f"{path.name}.partial-stale-{uuid.uuid4().hex[:8]}")
    try:
        path.rename(aside)
        if _text(aside) != judged:
            os.link(aside, path)
        aside.unlink()
    except (FileNotFoundError, FileExistsError):
        pass  # another process was faster
    except OSError as error:
        raise disk_error(path, error) from error
    return True


def _here() -> dict[str, object]:
    """This machine's name and, where Linux tells them, its boot and the namespace of its processes.

    Machines made from one image may share a name; no two share a boot.
    """
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        namespace = boot = ""
    return {"host": socket.gethostname(), "boot": boot, "namespace": namespace}


def _is_alive(holder: dict[str, object]) -> bool:
    try:
        began = psutil.Process(int(str(holder.get("pid", 0)))).create_time()
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:
        return True
    # numbers are given again; the clock that both times come from may have been set by a little
    return bool(abs(began - float(str(holder.get("began", began)))) < _SAME_PROCESS_S)


def _age(path: Path) -> float:
    """Seconds since the last heartbeat, both by the clock of the disk: a share's is seldom this machine's."""
    probe = partial_name(path)
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


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
