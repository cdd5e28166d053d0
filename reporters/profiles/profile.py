"""The fields of a profile."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

CARD = "wsi_profile.json"
"""A checkpoint folder may bring its own profile in this file; it wins over the family's."""


class Profile(BaseModel):
    """What a checkpoint expects. Stored with each report."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    native_tokens: int
    """Soft tokens per patch of the unpooled image."""
    trained_tokens: tuple[int, ...]
    """Tokens per patch it was trained with, any order; a plan uses no others."""
    mixes: bool = False
    """Whether it was trained on sequences that hold patches of several of these."""
    context: int
    """Longest sequence it is made for, prompt and answer included."""
    strategy: Literal["windows", "joint"]
    """What `auto` plans."""
    asked_context: int | None = None
    """Longest sequence to plan where another one than `context` was asked for."""
    patch_size: int
    """Patch pixels it was trained on, before its own resize."""
    mpps: tuple[float, ...]
    """µm per pixel it was trained on."""
    opening: str
    """Text before the first slide; `<bos>` and turn markers written out."""
    slide_marker: str
    """Text that opens a slide; `{n}` is its number within the sequence."""
    marker_every: dict[int, int] = {}
    """Tokens per patch → patches after which the slide marker is repeated; absent: only at the start."""
    prompt: str
    """Instruction after the images; `{tissue}`, `{procedure}`, `{context}` are filled or dropped by line."""
    merge_prompt: str | None = None
    """Instruction for merging `{findings}` of several windows; None when the checkpoint cannot merge."""
    closing: str
    """Text between instruction and answer."""
    end: str
    """Token that ends an answer."""
    max_slides: int | None = None
    """Most slides in one sequence; None without limit."""
    answer: Literal["text", "lines"] = "text"
    """Free text, or lines `Slide n: …`, then organ, diagnosis and slides shown."""
    domain: Literal["phantom"] | None = None
    """The only kind of slide it may write on; None for real slides."""

    @property
    def longest(self) -> int:
        """Longest sequence that is planned."""
        return self.asked_context or self.context
