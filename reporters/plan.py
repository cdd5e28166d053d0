"""The plan: which patches, at how many tokens, in which windows. Data, stored with the report."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from reporters.sequence import Grids

Strategy = Literal["windows", "joint", "groups", "mixed", "search"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SlideShare(_Data):
    """Patches of one slide in one window, in the order they are read in."""

    slide: str
    patches: tuple[int, ...]
    fine: tuple[int, ...] = ()
    """Those of them that are read at the finer T of a mixed plan."""


class Window(_Data):
    """One sequence: slides in order; a slide's number in it is its place, from 1."""

    slides: tuple[SlideShare, ...]
    tokens: int
    """Input length, markers and instruction included."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of its slides."""
        return tuple(share.slide for share in self.slides)

    @property
    def patches(self) -> int:
        """Of all its slides."""
        return sum(len(share.patches) for share in self.slides)


class PartPlan(_Data):
    """How one part is read."""

    strategy: Strategy
    tokens_per_patch: int
    fine_tokens_per_patch: int | None = None
    """Of a mixed plan's fine patches, and of a search's close look."""
    windows: tuple[Window, ...]
    close: tuple[Window, ...] = ()
    """Of a search: what is read a second time, closely."""
    patches_found: int
    patches_read: int
    patches_left_out: int = 0
    """For their quality, as `--leave-out` asked."""
    order: Literal["spatial", "random"] = "spatial"
    """Of the patches of a slide."""
    slide_markers: bool = True
    """Whether sequences tell slides apart."""
    coordinates: bool = False
    """Whether the place of each patch is written before it."""
    deviations: tuple[str, ...] = ()
    """Where the plan leaves what the checkpoint was trained on."""
    second_look: int = 0
    """So many patches are to be read fine once a first reading has shown which."""
    longest: int = 0
    """Tokens of the longest sequence with patches that there will be, or that it is at the most."""

    first_look_tokens: int = 0
    """Input tokens of the first reading, when this is the second."""
    alone: tuple[Window, ...] = ()
    """Of a search, once it was read: slides that were read by themselves, because something was named on them."""

    @property
    def tokens(self) -> int:
        """Input tokens over all windows, and of a first or second look."""
        again = self.longest if self.second_look else 0
        return self.first_look_tokens + sum(window.tokens for window in self.sequences) + again

    @property
    def slides(self) -> frozenset[str]:
        """Names of those that it reads."""
        return frozenset(name for window in self.windows for name in window.names)

    @property
    def sequences(self) -> tuple[Window, ...]:
        """All that are read but for a first or second look of a mixed plan."""
        return (*self.windows, *self.close, *self.alone)

    @property
    def fine(self) -> int:
        """How many patches are read at the finer T."""
        return len({(share.slide, p) for window in self.sequences for share in window.slides for p in share.fine})

    @property
    def finest(self) -> int:
        """The largest T that it reads a patch at, now or when it looks again."""
        return self.fine_tokens_per_patch or self.tokens_per_patch

    def grids(self, window: Window) -> Grids:
        """T of each patch of a window."""
        fine = [frozenset(share.fine) for share in window.slides]
        return [
            [self.finest if patch in some else self.tokens_per_patch for patch in share.patches]
            for share, some in zip(window.slides, fine, strict=True)
        ]
