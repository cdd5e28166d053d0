"""A pool of phantom slides through the real tiler, with the lesion's share of every patch, to train on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilers.tile import tile
from workflows.phantom.cohort import SEEDS, Split, draw_slide
from workflows.phantom.pathology import ORGANS, VERSION
from workflows.phantom.slide import Layout, SlideSpec, make_slide
from workflows.phantom.tissue import FIELD_MPP
from wsi_pipeline.cases import Slide
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore

CELLS = 4
"""Truth is kept per patch on a CELLS × CELLS grid, as fine as the model's native tokens."""


@dataclass(frozen=True)
class PoolSlide:
    """A tiled slide of known truth.

    Attributes:
        spec: how it was made.
        store: its patches.
        lesion: (N, CELLS, CELLS) share of each cell that the lesion covers.
    """

    spec: SlideSpec
    store: Path
    lesion: NDArray[np.float32]


def pool_specs(split: Split, benign: int, per_lesion: int) -> list[SlideSpec]:
    """`benign` normal slides of every organ and `per_lesion` of every other diagnosis."""
    wanted = [
        (organ, diagnosis)
        for organ in ORGANS
        for diagnosis in organ.diagnoses
        for _ in range(benign if diagnosis is organ.benign else per_lesion)
    ]
    first = SEEDS[split].start * 64
    return [draw_slide(first + n, organ, diagnosis) for n, (organ, diagnosis) in enumerate(wanted)]


def build_pool(root: Path, specs: list[SlideSpec], workers: int) -> Iterator[PoolSlide]:
    """Make and tile slides in `workers` processes; what is there is kept. Slides without tissue are left out."""
    root.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for made in pool.map(_make_one, [root] * len(specs), specs, chunksize=4):
            if len(made.lesion):
                yield made


def _make_one(root: Path, spec: SlideSpec) -> PoolSlide:
    store = root / f"v{VERSION}-{spec.seed}.zarr"
    truth = store.with_suffix(".npy")
    if not truth.exists():
        file = root / f"{spec.seed}.{'svs' if spec.layout == 'svs' else 'tif'}"
        layout = make_slide(file, spec)
        tile(Slide(str(spec.seed), file), TileSettings(), store)
        file.unlink()
        np.save(truth, lesion_shares(layout, PatchStore(store), spec.mpp))
    return PoolSlide(spec, store, np.load(truth))


def lesion_shares(layout: Layout, store: PatchStore, mpp: float) -> NDArray[np.float32]:
    """(N, CELLS, CELLS) share of each cell of each patch that the lesion covers."""
    cell = store.facts.patch_level0 * mpp / FIELD_MPP / CELLS
    height, width = layout.lesion.shape
    integral = np.zeros((height + 1, width + 1))
    integral[1:, 1:] = layout.lesion.cumsum(0).cumsum(1)
    steps = np.arange(CELLS + 1) * cell
    x = np.clip(np.rint(store.coords[:, :1] * mpp / FIELD_MPP + steps), 0, width).astype(int)
    y = np.clip(np.rint(store.coords[:, 1:] * mpp / FIELD_MPP + steps), 0, height).astype(int)
    corner = integral[y[:, :, None], x[:, None, :]]
    area = corner[:, 1:, 1:] - corner[:, :-1, 1:] - corner[:, 1:, :-1] + corner[:, :-1, :-1]
    return np.asarray(area / cell**2, np.float32)
