"""How work in a child may end. A module of its own: a child imports it, and must not load what tests load."""

import os
import signal
import time

from wsi_pipeline.errors import SlideError
from wsi_pipeline.events import emit


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def stall() -> None:
    time.sleep(60)


def hoard() -> None:
    kept = []
    while True:
        kept.append(bytearray(b"x" * 2**24))
        time.sleep(0.005)


def complain() -> None:
    raise SlideError("slide.svs", "is odd", "look at it")


def stumble() -> None:
    raise ZeroDivisionError("by zero")


def tell(word: str) -> None:
    emit("said", word=word)
