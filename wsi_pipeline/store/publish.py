"""Write beside, then rename: a final name never holds half an artefact."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from wsi_pipeline.errors import StoreError

Store = TypeVar("Store")

_PARTIAL = ".partial-"
_LEFTOVER = re.compile(re.escape(_PARTIAL) + r"(\w+-\d+|stale)-[0-9a-f]{8}$")
"""What `partial_name` and stale locks are called; a slide's own name may hold the word, too."""


@contextmanager
def publishing(final: Path) -> Iterator[Path]:
    """Yield a partial folder to fill; on success it is synced to disk and renamed to `final`.

    On an error nothing remains. If `final` appeared meanwhile, it holds the same content (its name is a
    fingerprint) and ours is dropped.

    Raises:
        StoreError: disk full, no permission, or another reason the disk gives.
    """
    partial = partial_name(final)
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync_tree(partial)
        try:
            partial.rename(final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _sync(final.parent)
    except OSError as error:
        raise disk_error(final, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def opened(final: Path, store: Callable[[Path], Store]) -> Store | None:
    """The store at `final`; None where there is none, or only what is left of one."""
    if not final.exists():
        return None
    try:
        return store(final)
    except StoreError:
        return None


def opened_or_removed(final: Path, store: Callable[[Path], Store]) -> Store | None:
    """The same; what is left of one is removed, so that another can be published."""
    found = opened(final, store)
    if found is None and final.exists():
        shutil.rmtree(final)
    return found


def write_text(path: Path, text: str) -> None:
    """Replace a small file in one step, so that a reader sees the old or the new text.

    Raises:
        StoreError: the disk refuses.
    """
    partial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def partial_name(final: Path) -> Path:
    """`<name>.partial-<host>-<pid>-<uuid>` beside `final`."""
    host = "".join(c for c in socket.gethostname() if c.isalnum()) or "host"
    return final.with_name(f"{final.name}{_PARTIAL}{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def sweep_partials(folder: Path) -> int:
    """Delete what crashed writers left below `folder`; the caller holds the case's lock."""
    leftovers = [p for p in folder.rglob(f"*{_PARTIAL}*") if _LEFTOVER.search(p.name)]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # another user's is in nobody's way
                path.unlink(missing_ok=True)
    return len(leftovers)


def ensure_writable(out: Path) -> None:
    """Create OUT and prove that a file can be written there, before any work is done.

    Raises:
        StoreError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = partial_name(out / "probe")
        probe.write_bytes(b"wsi-pipeline")
        probe.unlink()
    except OSError as error:
        raise disk_error(out, error) from error


def disk_error(path: Path, error: OSError) -> StoreError:
    """The disk's refusal in words a user can act on."""
    fixes = {
        errno.ENOSPC: "free space or choose another --out; --dry-run estimates the bytes, --retain reports keeps few",
        errno.EDQUOT: "free space in your quota or choose another --out",
        errno.EACCES: "choose a folder you may write to with --out",
        errno.EPERM: "choose a folder you may write to with --out",
        errno.EROFS: "choose a folder on a writable file system with --out",
    }
    where = error.filename or path
    cause = f"cannot be written ({error.strerror or error})"
    return StoreError(where, cause, fixes.get(error.errno or 0, "check the disk and the path given to --out"))


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            _sync(Path(root) / name)
        _sync(Path(root))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
