import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tilers.quality import COLUMNS, Light, light_of, measure
from wsi_pipeline.store.verdicts import verdicts

EOSIN, HAEMATOXYLIN, DAB = (0.07, 0.99, 0.11), (0.65, 0.70, 0.29), (0.27, 0.57, 0.78)
"""Absorbances by Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23 (2001), 291."""
BLACK, BLUE, GREEN, RED = (0.9, 0.9, 0.9), (1.1, 0.6, 0.15), (1.0, 0.3, 0.8), (0.1, 1.0, 0.8)


def coloured(*absorbances: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(int(245 * 10**-total) for total in np.sum(absorbances, 0))


def times(strength: float, stain: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(strength * a for a in stain)


def light(usual: float = 0.2, glass: float = 245) -> Light:
    density = np.maximum(-np.log10(np.maximum(np.arange(256), 1) / glass), 0).astype(np.float32)
    return Light(np.stack([density] * 3, -1), usual)


def columns(patch: NDArray[np.uint8], mpp: float = 1.0, by: Light | None = None) -> dict[str, float]:
    return dict(zip(COLUMNS, measure(Image.fromarray(patch), 1, mpp, by or light()), strict=True))


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


GLASS = np.full((768, 768, 3), 245, np.uint8)


def test_folds_are_dark_beside_the_tissue_of_their_slide_and_ink_is_not() -> None:
    tissue = np.full_like(GLASS, coloured(times(0.5, EOSIN)))
    folded, marked, padded = tissue.copy(), tissue.copy(), tissue.copy()
    folded[300:400] = coloured(times(1.2, EOSIN))
    marked[300:400] = coloured(BLACK)
    padded[300:400] = 0
    by = light_of(np.vstack([GLASS, tissue]), np.arange(1536)[:, None].repeat(768, 1) >= 768)
    assert [columns(p, by=by)["dark"] for p in (tissue, folded, marked, padded)] == pytest.approx(
        [0, 0.13, 0, 0], abs=0.01
    )
    assert columns(padded, by=by)["pen"] == 0
    strong = light_of(np.vstack([GLASS, folded[300:400]]), np.arange(868)[:, None].repeat(768, 1) >= 768)
    assert columns(folded, by=strong)["dark"] == 0


@pytest.mark.parametrize("glass", [(243, 243, 243), (225, 220, 212), (190, 190, 190)])
def test_glass_within_a_drawn_mask_and_of_any_tint_makes_nothing_dark_or_blurred(glass: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    shaded = textured() / 245 * glass
    bare = np.clip(rng.normal(glass, 1, shaded.shape), 0, 255)
    half = np.where(np.arange(768)[:, None, None] < 300, bare, shaded)
    overview = np.asarray(Image.fromarray(np.vstack([bare, bare, half]).astype(np.uint8)).reduce(8))
    by = light_of(overview, np.ones(overview.shape[:2], bool))
    shown = [columns(p.astype(np.uint8), by=by) for p in (half, shaded, bare)]
    assert max(c["dark"] for c in shown) < 0.1  # clusters of nuclei
    assert max(c["pen"] for c in shown) == 0
    assert shown[0]["focus"] > 0.5 * shown[1]["focus"]


def test_a_slide_without_tissue_has_a_usual_absorbance() -> None:
    assert 0.1 < light_of(GLASS, np.zeros(GLASS.shape[:2], bool)).usual < 0.4


@pytest.mark.parametrize("colour", [(40, 25, 20), (185, 35, 60), (150, 20, 60), (0, 0, 0)])
def test_melanin_dense_blood_and_padding_are_no_ink(colour: tuple[int, ...]) -> None:
    assert columns(np.full((64, 64, 3), colour, np.uint8))["pen"] == 0


@given(st.integers(0, 1000), st.sampled_from([0.06, 0.18, 0.5, 1.0, 0.67, 2.0, 8.0]), st.integers(32, 70))
def test_columns_are_numbers_whatever_a_patch_holds(seed: int, mpp: float, edge: int) -> None:
    patch = np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), np.uint8)
    found = measure(Image.fromarray(patch), 0.75, mpp, light())
    assert found[0] == 0.75
    assert np.isfinite(found).all()
    assert all(0 <= found[COLUMNS.index(name)] <= 1 for name in ("background", "dark", "pen"))
