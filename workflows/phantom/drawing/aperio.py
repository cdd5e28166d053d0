"""What the pages of a phantom's SVS say of themselves, in Aperio's words."""

from __future__ import annotations

from tilers.readers.base import PHANTOM_MARKER
from workflows.phantom.pathology import VERSION

MARKER = f"{PHANTOM_MARKER} {VERSION}, no patient"


def describe_page(full: tuple[int, int], level: tuple[int, int], tile: int, mpp: float, codec: str = "") -> str:
    """The description of one level.

    Args:
        full: width and height of level 0.
        level: width and height of this one.
        tile: edge of its tiles.
        mpp: µm per pixel of level 0; the power that goes with it is told, too.
        codec: of its tiles.
    """
    return (
        f"Aperio Image Library v11.2.1 \r\n{full[0]}x{full[1]} [0,0 {level[0]}x{level[1]}] "
        f"({tile}x{tile}) {codec}|AppMag = {10 / mpp:g}|MPP = {mpp:g}|{MARKER}"
    )
