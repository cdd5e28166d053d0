"""wsidata, with which LazySlide reads: its iterator of tile images at our places, each saved as JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from measured import PATCH, measured
from PIL import Image
from wsidata import TileSpec, open_wsi
from wsidata.io import add_tiles


def work(slide: Path, origins: np.ndarray, mpp: float, out: Path) -> None:
    wsi = open_wsi(slide)
    add_tiles(wsi, "tiles", origins, TileSpec.from_wsidata(wsi, PATCH, mpp=mpp), np.zeros(len(origins), int))
    for number, tile in enumerate(wsi.iter.tile_images("tiles")):
        assert tile.image.shape == (PATCH, PATCH, 3)
        Image.fromarray(tile.image).save(out / f"{number:06d}.jpg", quality=90)


measured(work)
