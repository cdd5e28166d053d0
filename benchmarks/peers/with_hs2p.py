"""hs2p: its own reading, resizing and JPEG tar, at our places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hs2p import SegmentationConfig, SlideSpec, TilingConfig, tile_slide
from hs2p.tiling.tar import extract_tiles_to_tar
from measured import PATCH, measured


def work(slide: Path, origins: np.ndarray, mpp: float, out: Path) -> None:
    found = tile_slide(
        SlideSpec(sample_id="big", image_path=slide),
        tiling=TilingConfig(
            backend="openslide", requested_spacing_um=mpp, requested_tile_size_px=PATCH, tolerance=0.05, overlap=0.0
        ),
        segmentation=SegmentationConfig(method="hsv", downsample=64),
    )
    places = replace(
        found.tiles,
        x=origins[:, 0].astype(found.x.dtype),
        y=origins[:, 1].astype(found.y.dtype),
        tissue_fractions=np.ones(len(origins), np.float32),
        tile_index=np.arange(len(origins), dtype=np.int32),
    )
    tar, _ = extract_tiles_to_tar(replace(found, tiles=places), out, num_workers=1)
    assert tar.stat().st_size


measured(work)
