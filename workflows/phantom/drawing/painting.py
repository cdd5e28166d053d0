"""A phantom slide as it is stained: textures on the layout, mimics beside lesions, and what lies on the glass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workflows.phantom.drawing import artefacts
from workflows.phantom.drawing.contents import REDRAWN, artefact, mimic_of
from workflows.phantom.drawing.layout import Layout, SlideSpec, blob
from workflows.phantom.drawing.tissue import Field, Stains, Window, draw, match_light, varied
from workflows.phantom.pathology import VERSION, Motif, Organ, organ_named

MIMICS = (0, 4)
"""Range of the number of foci that look like a lesion on a slide with distractors."""


@dataclass(frozen=True)
class Painting:
    """A slide before it is scanned; maps at `FIELD_MPP`.

    Attributes:
        stains: what is in the tissue.
        overlay: absorbance (h, w, 3) of what lies on the glass.
        blurred: where the scan is out of focus.
        content: what a place shows, as a number: 0 normal tissue, k diagnosis k of the organ, then `mimic_of(k)`,
            `REDRAWN`, and `artefact(name)`.
    """

    stains: Stains
    overlay: Field | None
    blurred: NDArray[np.bool_]
    content: NDArray[np.uint8]


def paint(spec: SlideSpec, layout: Layout, mimics: tuple[int, int] = MIMICS) -> Painting:
    """Stain the layout and put distractors on it.

    Args:
        spec, layout: of the slide.
        mimics: range of the number of foci that look like a lesion.
    """
    rng = np.random.default_rng([VERSION, spec.seed, 1])
    organ = organ_named(spec.organ)
    shape = layout.tissue.shape
    texture_seed = int(rng.integers(1 << 31))

    def texture(motif: Motif) -> Motif:
        """As this slide has it: the same variation for every motif on it."""
        return varied(np.random.default_rng(texture_seed), motif)

    benign = texture(organ.benign.motif)
    stains = draw(rng, benign, shape)
    content = np.zeros(shape, np.uint8)
    if spec.distractors:
        stains = _mimics(rng, stains, content, layout.tissue, organ, texture, mimics)
    lesions = np.random.default_rng([VERSION, spec.seed, 4])
    for number in np.unique(layout.lesion[layout.lesion > 0]):
        motif = benign.toward(texture(organ.diagnoses[number].motif), spec.contrast)
        stains = _inlay(lesions, stains, motif, layout.lesion == number, matched=True)
    cover = ndimage.gaussian_filter(layout.tissue.astype(np.float32), 1)
    overlay: Field | None = None
    blurred = np.zeros(shape, bool)
    if spec.distractors:
        taboo = ndimage.binary_dilation(layout.lesion > 0, iterations=8)
        if rng.random() < 0.3:
            thickness = artefacts.fold(rng, shape)
            cover = cover * thickness
            content[layout.tissue & (thickness > 1.3)] = artefact("fold")
        if rng.random() < 0.3:
            stains, where = artefacts.blood(rng, stains, taboo)
            cover = np.maximum(cover, where)
            content[where] = artefact("blood")
        for chance, name, kind in _ON_GLASS:
            if rng.random() < chance:
                ink, where = kind(rng, taboo)
                overlay = ink if overlay is None else overlay + ink
                content[where] = artefact(name)
        if rng.random() < 0.2:
            blurred = artefacts.blur(rng, taboo)
            content[layout.tissue & blurred] = artefact("blur")
    content = np.where(layout.lesion > 0, layout.lesion, content)
    return Painting(Stains(*(m * cover for m in stains.maps)), overlay, blurred, content)


_ON_GLASS = ((0.2, "pen", artefacts.pen), (0.2, "bubble", artefacts.bubble), (0.35, "dust", artefacts.dust))


def _mimics(
    rng: np.random.Generator,
    stains: Stains,
    content: NDArray[np.uint8],
    tissue: NDArray[np.bool_],
    organ: Organ,
    texture: Callable[[Motif], Motif],
    count: tuple[int, int],
) -> Stains:
    """Foci of benign tissue that look like something, entered into `content`.

    Each is the mimic of a lesion, or the same texture drawn anew: that has a lesion's border and nothing else of it.
    """
    options = {REDRAWN: organ.benign.motif}
    options |= {mimic_of(k): d.mimic for k, d in enumerate(organ.diagnoses) if d.mimic}
    for _ in range(int(rng.integers(*count))):
        where = blob(rng, tissue, rng.uniform(0.5, 1.1), None) & tissue
        number = list(options)[int(rng.integers(len(options)))]
        stains = _inlay(rng, stains, texture(options[number]), where, matched=rng.random() < 0.5)
        content[where] = number
    return stains


def _inlay(
    rng: np.random.Generator, stains: Stains, motif: Motif, where: NDArray[np.bool_], *, matched: bool
) -> Stains:
    """Draw `motif` where asked, on the crop that needs it; `matched` gives it the light of what was there."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    if not len(rows):
        return stains
    margin = 12
    window: Window = (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
    before = stains.crop(window)
    weight = ndimage.gaussian_filter(where[window].astype(np.float32), 3)
    drawn = draw(rng, motif, weight.shape)
    if matched:
        drawn = match_light(drawn, before)
    after = before.blend(drawn, weight)
    changed = []
    for whole, part in zip(stains.maps, after.maps, strict=True):
        copy = whole.copy()
        copy[window] = part
        changed.append(copy)
    return Stains(*changed)
