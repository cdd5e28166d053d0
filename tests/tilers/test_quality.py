import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tilers.quality import COLUMNS, measure, usual_absorbance
from wsi_pipeline.store.verdicts import verdicts

EOSIN, HAEMATOXYLIN, DAB = (0.07, 0.99, 0.11), (0.65, 0.70, 0.29), (0.27, 0.57, 0.78)
"""Absorbances by Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23 (2001), 291."""
BLACK, BLUE, GREEN, RED = (0.9, 0.9, 0.9), (1.1, 0.6, 0.15), (1.0, 0.3, 0.8), (0.1, 1.0, 0.8)


def coloured(*absorbances: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(int(245 * 10**-total) for total in np.sum(absorbances, 0))


def times(strength: float, stain: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(strength * a for a in stain)


def columns(patch: NDArray[np.uint8], mpp: float = 1.0, usual: float = 0.2) -> dict[str, float]:
    return dict(zip(COLUMNS, measure(Image.fromarray(patch), 1, mpp, usual), strict=True))


@pytest.mark.parametrize("below", [(0.0, 0.0, 0.0), times(0.4, EOSIN), times(0.4, HAEMATOXYLIN)])
@pytest.mark.parametrize("ink", [BLACK, BLUE, GREEN, RED])
def test_ink_is_counted_on_glass_and_on_tissue(ink: tuple[float, ...], below: tuple[float, ...]) -> None:
    patch = np.full((256, 256, 3), coloured(below), np.uint8)
    patch[:64] = coloured(ink, below)
    assert columns(patch)["pen"] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0, 1.5, 2.5])
@pytest.mark.parametrize("beside", [(0.0, 0.0, 0.0), times(0.2, HAEMATOXYLIN), times(0.6, HAEMATOXYLIN)])
@pytest.mark.parametrize("stain", [EOSIN, HAEMATOXYLIN, DAB])
def test_stain_is_no_ink(stain: tuple[float, ...], beside: tuple[float, ...], strength: float) -> None:
    patch = np.full((64, 64, 3), coloured(times(strength, stain), beside), np.uint8)
    assert columns(patch)["pen"] == 0


def textured(seed: int = 0) -> NDArray[np.float32]:
    spots = np.random.default_rng(seed).random((768, 768)) < 0.004
    nuclei = ndimage.grey_dilation(spots.astype(np.float32), size=(7, 7))
    return 245 * 10.0 ** -(nuclei[..., None] * HAEMATOXYLIN + 0.3 * np.array(EOSIN, np.float32))


def test_a_region_out_of_focus_is_told_beside_the_rest_of_its_slide() -> None:
    sharp, soft = textured(), ndimage.gaussian_filter(textured(), (2.5, 2.5, 0))
    half = np.where(np.arange(768)[:, None, None] < 350, soft, sharp)
    glass = np.full((768, 768, 3), 243.0)
    glass[300:420, 300:420] = sharp[:120, :120]
    shown = [columns(p.astype(np.uint8)) for p in (sharp, textured(1), textured(2), textured(3), half, soft, glass)]
    slide = {name: np.array([c[name] for c in shown], np.float32) for name in COLUMNS}
    assert verdicts(slide)["blurred"].tolist() == [False] * 4 + [True, True, False]


def test_ink_hides_no_sharpness_and_has_none_itself() -> None:
    plain, marked = textured(), textured()
    marked[200:500] = coloured(BLUE)
    focus = [columns(p.astype(np.uint8))["focus"] for p in (plain, marked)]
    assert focus[1] > 0.5 * focus[0]


def test_folds_are_dark_beside_the_tissue_of_their_slide_and_ink_is_not() -> None:
    tissue = np.full((768, 768, 3), coloured(times(0.5, EOSIN)), np.uint8)
    folded, marked = tissue.copy(), tissue.copy()
    folded[300:400] = coloured(times(1.2, EOSIN))
    marked[300:400] = coloured(BLACK)
    usual = usual_absorbance(tissue, np.ones(tissue.shape[:2], bool))
    dark = [columns(p, usual=usual)["dark"] for p in (tissue, folded, marked)]
    assert dark == pytest.approx([0, 0.13, 0], abs=0.01)
    strong = usual_absorbance(folded[300:400], np.ones((100, 768), bool))
    assert columns(folded, usual=strong)["dark"] == 0


def test_a_slide_without_tissue_has_a_usual_absorbance() -> None:
    assert 0.1 < usual_absorbance(np.full((5, 5, 3), 240, np.uint8), np.zeros((5, 5), bool)) < 0.4


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 0.67, 2.0]), st.integers(40, 70))
def test_columns_are_numbers_whatever_a_patch_holds(seed: int, mpp: float, edge: int) -> None:
    patch = np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), np.uint8)
    found = measure(Image.fromarray(patch), 0.75, mpp, 0.2)
    assert found[0] == 0.75
    assert np.isfinite(found).all()
    assert all(0 <= found[COLUMNS.index(name)] <= 1 for name in ("background", "dark", "pen"))
    step = max(1, round(2.0 / mpp))
    side = edge // step * step
    small = patch[:side, :side].reshape(side // step, step, side // step, step, 3).mean((1, 3))
    assert found[1] == pytest.approx((small.min(2) > 220.5).mean(), abs=0.03)
