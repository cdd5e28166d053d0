"""How events look: bars on a terminal, plain lines in a log, JSON for machines. All on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_pipeline.events import Event

_BARS = {"tile": "tiling", "encode": "encoding", "train.pool": "slides"}
_EVERY_S = 30.0


@contextmanager
def showing(json_log: bool = False) -> Iterator[None]:
    """Show events inside the block in the way that fits where standard error goes."""
    from wsi_pipeline.events import listening

    display = _Json() if json_log else _Terminal() if sys.stderr.isatty() else _Lines()
    with listening(display):
        try:
            yield
        finally:
            display.close()


class _Json:
    """One object per event."""

    def __call__(self, event: Event) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"time": stamp, "event": event.name, **event.facts}), file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class _Lines:
    """What matters, a line each; progress at most every half minute per slide."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        key = f"{event.name}/{event.facts.get('slide', '')}"
        if event.name.endswith(".progress") and event.facts["done"] < event.facts["total"]:
            if time.monotonic() - self._last.setdefault(key, time.monotonic()) < _EVERY_S:
                return
            self._last[key] = time.monotonic()
        text = describe(event)
        if text:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class _Terminal:
    """A bar per slide at work, lines for the rest."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        from tqdm import tqdm

        stage, _, what = event.name.rpartition(".")
        slide = event.facts.get("slide", "")
        if stage in _BARS and what in ("start", "progress"):
            key = f"{stage}/{slide}"
            if what == "start":
                self._bars[key] = tqdm(
                    total=event.facts["total"], desc=f"  {_BARS[stage]} {slide}", unit="patch", leave=False
                )
            elif key in self._bars:
                bar = self._bars[key]
                bar.update(event.facts["done"] - bar.n)
                if event.facts["done"] == event.facts["total"]:
                    self._bars.pop(key).close()
            return
        if text := describe(event):
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()


def describe(event: Event) -> str | None:
    """An event in words; None for those that say nothing to a person."""
    f = event.facts
    match event.name:
        case "find.empty":
            return f"{f['folder']} holds no slides, and is no case"
        case "run.case":
            return f"[{f['number']}/{f['total']}] {f['case']}"
        case "tile.slides" if f["total"] or f["kept"]:
            return f"  {f['total']} slides to tile, {f['kept']} already tiled"
        case "tile.progress":
            return f"  tiling {f['slide']}: {f['done']} of {f['total']} patches"
        case "encode.progress" if f["done"] == f["total"]:
            return f"  encoded {f['slide']}: {f['total']} patches"
        case "encode.smaller_batch":
            return f"  out of memory; going on with batches of {f['batch_size']}"
        case "slide.failed":
            return f"  slide {f['slide']} failed ({f['stage']}): {f['reason']}"
        case "plan":
            return (
                f"  {f['part']}: {f['patches']} patches, {f['strategy']}, {f['windows']} window(s), "
                f"{f['tokens_per_patch']} token(s) per patch, {f['tokens']:,} tokens"
            )
        case "write.window" if f["done"] < f["total"]:
            return f"  writing {f['part']}, window {f['done'] + 1} of {f['total']} ({f['tokens']:,} tokens)"
        case "case.done" if f["current"]:
            return f"  up to date ({f['status'].replace('_', ' ')}), nothing done"
        case "case.done":
            reason = f": {f['reason']}" if f.get("reason") else ""
            return f"  {f['status'].replace('_', ' ')}{reason}"
        case name if name.startswith("train."):
            return f"  {name.removeprefix('train.')} " + ", ".join(f"{k} {v}" for k, v in f.items())
    return None
