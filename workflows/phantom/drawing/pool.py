"""A pool of phantom slides through the real tiler, with the lesion's share of every patch, to train on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilers.tile import ALGORITHM, tile
from workflows.phantom.drawing.cohort import draw_slide
from workflows.phantom.drawing.contents import CONTENTS, MOST
from workflows.phantom.drawing.layout import SHOWN_FROM, SlideSpec, lay_out, patches_showing
from workflows.phantom.drawing.painting import paint
from workflows.phantom.drawing.slide import scan_painting, write_slide
from workflows.phantom.drawing.tissue import FIELD_MPP
from workflows.phantom.pathology import ORGANS, VERSION, Diagnosis, Organ, organ_named
from workflows.phantom.seeds import Split, case_seed, slide_seed
from workflows.phantom.wording import Extent
from wsi_pipeline.cases import Slide
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.fingerprint import fingerprint
from wsi_pipeline.store.patches import PatchStore

_MOST_PER_KIND, _FAINT_FROM = 10_000, 5_000
"""Slides of a kind that have seeds of their own, the later ones for faint lesions."""
_FAINT = 0.3, 0.8
"""Contrast, from lesions that hardly anybody sees to those that most see."""
PLAIN_FROM = 0.3
_NOTHING_BELOW = 0.005
"""Shares of a patch."""
CELLS = 4
"""Truth is kept per patch on a CELLS × CELLS grid, as fine as the model's native tokens."""


@dataclass(frozen=True)
class PoolSlide:
    """A tiled slide of known truth; it shows one diagnosis.

    Attributes:
        spec: how it was made.
        store: its patches.
        shares: (N, CELLS, CELLS, CONTENTS) share of each cell that holds each content.
        showing: how many places for patches show the lesion, by the layout.
        file_bytes: size of the slide file, which is deleted once tiled.
    """

    spec: SlideSpec
    store: Path
    shares: NDArray[np.float16]
    showing: int
    file_bytes: int

    @property
    def lesion(self) -> NDArray[np.float32]:
        """(N, CELLS, CELLS) share of each cell that the lesion covers."""
        return np.asarray(self.shares[..., 1:MOST].sum(-1), np.float32)

    @property
    def organ(self) -> Organ:
        """Of the slide."""
        return organ_named(self.spec.organ)

    @property
    def diagnosis(self) -> Diagnosis:
        """What it shows."""
        return self.organ.diagnosis(self.spec.foci[0].diagnosis) if self.spec.foci else self.organ.benign


def pool_specs(
    split: Split,
    benign: int,
    per_lesion: int,
    faint: int = 0,
    workers: int = 1,
    organs: Sequence[Organ] = ORGANS,
) -> list[SlideSpec]:
    """`benign` normal slides of every organ, `per_lesion` of every other diagnosis, and `faint` more of each of these.

    Half of the lesions are focal; a third show at somewhat less than full contrast, faint ones at much less. Who learns
    from those learns to be unsure. A larger pool holds a smaller one.
    """
    kinds = [(organ, diagnosis) for organ in ORGANS for diagnosis in organ.diagnoses]
    jobs = [
        (split, number, k, organ, diagnosis)
        for number, (organ, diagnosis) in enumerate(kinds)
        if organ in organs
        for k in (range(benign) if diagnosis == organ.benign else [*range(per_lesion), *_faint(faint)])
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        return list(pool.map(_draw_one, jobs, chunksize=20))


def _faint(count: int) -> range:
    return range(_FAINT_FROM, _FAINT_FROM + count)


def _draw_one(job: tuple[Split, int, int, Organ, Diagnosis]) -> SlideSpec:
    split, number, k, organ, diagnosis = job
    seed = slide_seed(case_seed(_MOST_PER_KIND * number + k, split), 0, 0)
    rng = np.random.default_rng([VERSION, seed, 8])
    contrast = round(float(rng.uniform(*_FAINT)), 2) if k >= _FAINT_FROM else draw_contrast(rng)
    extent: Extent = "extensive" if k % 2 else "focal"
    return draw_slide(seed, organ, diagnosis, extent, contrast=contrast)


def draw_contrast(rng: np.random.Generator) -> float:
    """Of a training slide: a third are somewhat fainter than those a model is tested on."""
    return round(float(rng.uniform(0.8, 1)), 2) if rng.random() < 1 / 3 else 1.0


def build_pool(root: Path, specs: list[SlideSpec], workers: int) -> Iterator[PoolSlide]:
    """Make and tile slides in `workers` processes; what is there is kept. Slides without tissue are left out."""
    root.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for made in pool.map(_make_one, [root] * len(specs), specs, chunksize=4):
            if len(made.shares):
                yield made


def _make_one(root: Path, spec: SlideSpec) -> PoolSlide:
    store = root / f"v{VERSION}-{spec.seed}-{fingerprint(spec=asdict(spec), tiling=ALGORITHM)}.zarr"
    truth = store.with_suffix(".npz")
    layout = lay_out(spec)
    if not truth.exists():
        file = root / f"{spec.seed}.{'svs' if spec.layout == 'svs' else 'tif'}"
        painting = paint(spec, layout)
        write_slide(file, spec, scan_painting(spec, painting))
        tile(Slide(str(spec.seed), file), TileSettings(), store)
        shares = content_shares(painting.content, PatchStore(store), spec.mpp)
        partial = truth.with_suffix(".partial.npz")
        np.savez(partial, shares=shares, file_bytes=file.stat().st_size)
        file.unlink()
        partial.rename(truth)
    known = np.load(truth)
    return PoolSlide(spec, store, known["shares"], patches_showing(layout), int(known["file_bytes"]))


def content_shares(content: NDArray[np.uint8], store: PatchStore, mpp: float) -> NDArray[np.float16]:
    """(N, CELLS, CELLS, CONTENTS) share of each cell of each patch that holds each content."""
    cell = store.facts.patch_level0 * mpp / FIELD_MPP / CELLS
    height, width = content.shape
    steps = np.arange(CELLS + 1) * cell
    x = np.clip(np.rint(store.coords[:, :1] * mpp / FIELD_MPP + steps), 0, width).astype(int)
    y = np.clip(np.rint(store.coords[:, 1:] * mpp / FIELD_MPP + steps), 0, height).astype(int)
    shares = np.zeros((len(store), CELLS, CELLS, CONTENTS), np.float16)
    for number in np.unique(content):
        integral = np.zeros((height + 1, width + 1))
        integral[1:, 1:] = (content == number).cumsum(0).cumsum(1)
        corner = integral[y[:, :, None], x[:, None, :]]
        area = corner[:, 1:, 1:] - corner[:, :-1, 1:] - corner[:, 1:, :-1] + corner[:, :-1, :-1]
        shares[..., number] = area / cell**2
    return shares


def shows_lesion(shares: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) from (n, cells, cells) shares."""
    return np.asarray(shares.mean((1, 2)) > SHOWN_FROM)


def shows_plainly(shares: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) from (n, cells, cells) shares; where one patch decides, a lesion must be there to be seen."""
    return np.asarray(shares.mean((1, 2)) > PLAIN_FROM)


def shows_nothing(shares: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) from (n, cells, cells) shares; a sliver of a lesion is neither a lesion nor nothing."""
    return np.asarray(shares.mean((1, 2)) < _NOTHING_BELOW)
