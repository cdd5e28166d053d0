"""tiatoolbox: its reader's `read_rect` at the wanted resolution, each patch saved as JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from measured import PATCH, measured
from PIL import Image
from tiatoolbox.wsicore.wsireader import WSIReader


def work(slide: Path, origins: np.ndarray, mpp: float, out: Path) -> None:
    reader = WSIReader.open(slide)
    for number, (x, y) in enumerate(origins):
        patch = reader.read_rect((int(x), int(y)), (PATCH, PATCH), resolution=mpp, units="mpp")
        Image.fromarray(patch[..., :3]).save(out / f"{number:06d}.jpg", quality=90)


measured(work)
