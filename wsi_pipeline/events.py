"""Progress as events: the work says what happens, whoever listens decides how it looks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing that happened: a dotted name and its facts (plain JSON values)."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]
_listeners: list[Listener] = []
_lock = threading.Lock()


def emit(name: str, **facts: Any) -> None:
    """Tell every listener that `name` happened. Costs nothing when nobody listens."""
    if _listeners:
        event = Event(name, facts)
        with _lock:
            for listener in _listeners:
                listener(event)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Deliver all events to `listener` inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
