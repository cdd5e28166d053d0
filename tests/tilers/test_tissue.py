from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tissue_image
from tilers.geometry import make_grid
from tilers.grid import tissue_fractions
from tilers.overview import read_overview
from tilers.readers import open_slide
from tilers.survey import survey
from tilers.tissue import find_pen, find_tissue
from workflows.phantom.drawing.glass import BLANK, SPECKS, make_glass
from workflows.phantom.drawing.layout import SlideSpec
from workflows.phantom.drawing.slide import make_slide
from workflows.phantom.drawing.tissue import FIELD_MPP
from workflows.phantom.pathology import ORGANS, Organ
from wsi_pipeline.cases import Slide
from wsi_pipeline.settings import TileSettings

MPP = 8.0


def recall_and_precision(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    both = (found & truth).sum()
    return both / truth.sum(), both / max(found.sum(), 1)


def ellipse(height: int = 300, width: int = 400) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return ((x / width - 0.5) / 0.38) ** 2 + ((y / height - 0.5) / 0.38) ** 2 < 1


@pytest.mark.parametrize("strength", [1.0, 0.35])
def test_strong_and_pale_tissue(strength: float) -> None:
    image = 243 - (243 - tissue_image(300, 400).astype(float)) * strength
    recall, precision = recall_and_precision(find_tissue(image.astype(np.uint8), MPP), ellipse())
    assert recall > 0.97
    assert precision > 0.9


@pytest.mark.parametrize("ink", [(20, 40, 190), (20, 130, 50), (25, 25, 25)])
def test_pen_is_no_tissue(ink: tuple[int, int, int]) -> None:
    image = np.full((300, 400, 3), 243, np.uint8)
    image[100:130, 50:350] = ink
    assert find_tissue(image, MPP).mean() < 0.005


def test_grey_glass_and_dust_are_no_tissue() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(205, 3, (300, 400, 3)).clip(0, 255).astype(np.uint8)
    for y, x in rng.integers(5, 290, (30, 2)):
        image[y : y + 2, x : x + 2] = 90
    assert not find_tissue(image, MPP).any()


def test_pale_specks_are_found_beside_strong_tissue() -> None:
    brown = np.array([0.25, 0.55, 0.85])
    image = np.full((300, 400, 3), 243.0)
    image[40:160, 40:160] *= 10**-brown
    image[200:210, 300:310] *= 10 ** (-0.32 * brown)
    found = find_tissue(image.astype(np.uint8), MPP)
    assert found[100, 100]
    assert found[200:210, 300:310].mean() > 0.8


def test_tissue_under_the_edge_of_a_pen_is_tissue() -> None:
    image = tissue_image(300, 400)
    image[100:130, 50:350] = (20, 40, 190)
    recall, precision = recall_and_precision(find_tissue(image, MPP)[140:], ellipse()[140:])
    assert recall > 0.97
    assert precision > 0.97


@pytest.mark.parametrize("mpp", [2.0, 8.0])
def test_bands_leave_no_trace(monkeypatch: pytest.MonkeyPatch, mpp: float) -> None:
    image = tissue_image(300, 400)
    image[100:130, 50:350] = (20, 40, 190)
    whole = find_tissue(image, mpp)
    monkeypatch.setattr("tilers.tissue._BAND", 37)
    assert np.array_equal(find_tissue(image, mpp), whole)


def test_pen_colours_are_told_from_stain() -> None:
    stain = np.array([[[0.45, 0.62, 0.3], [0.1, 0.5, 0.2]]], np.float32)
    assert not find_pen(stain).any()


@pytest.mark.parametrize("organ", ORGANS, ids=str)
def test_patches_with_phantom_tissue_are_found(organ: Organ, tmp_path: Path) -> None:
    """By patch: lobes of fat and open lumina at the edge are tissue to the truth and glass to the eye."""
    path = tmp_path / "s.svs"
    spec = SlideSpec(4, organ.name, width_mm=2.4, height_mm=2.0, distractors=False)
    layout = make_slide(path, spec)
    overview = read_overview(open_slide(path).reader, 1.0)
    grid = make_grid(overview.bounds, 256, 1.0)
    truth = tissue_fractions(layout.tissue, grid)
    found = tissue_fractions(find_tissue(overview.image, overview.mpp), grid) >= 0.05
    assert found[truth >= 0.1].all()
    assert not found[truth == 0].any()


def test_specks_of_a_few_cells_get_patches_and_blank_glass_none(tmp_path: Path) -> None:
    truth = make_glass(tmp_path / "specks.svs", SPECKS, 7)
    found = survey(Slide("specks", tmp_path / "specks.svs"), TileSettings())
    place = (truth.specks * FIELD_MPP / found.resolution.mpp // found.grid.step).astype(int)
    assert len(place) > 3
    assert set(place[:, 0] * found.grid.columns + place[:, 1]) <= set(found.candidates)
    make_glass(tmp_path / "blank.svs", BLANK, 7)
    assert not len(survey(Slide("blank", tmp_path / "blank.svs"), TileSettings()).candidates)


@pytest.mark.parametrize("condition", ["coverslip edge", "folds", "bubbles"])
def test_what_lies_on_the_glass_hides_no_tissue_and_is_none(tmp_path: Path, condition: str) -> None:
    truth = make_glass(tmp_path / "s.svs", condition, 3)
    found = survey(Slide("s", tmp_path / "s.svs"), TileSettings())
    share = tissue_fractions(truth.tissue, found.grid)
    kept = np.zeros(len(share), bool)
    kept[found.candidates] = True
    assert kept[share >= 0.05].mean() >= 0.99
    assert (share[kept] > 0).mean() >= 0.90


def test_pale_rims_belong_to_the_tissue_they_surround() -> None:
    y, x = np.mgrid[0:300, 0:400]
    away = np.hypot(y - 150, x - 200)
    image = np.full((300, 400, 3), 243, np.uint8)
    image[away < 110] = (228, 208, 228)  # too pale by itself where strong stain sets the threshold
    image[away < 90] = (150, 60, 140)
    assert find_tissue(image, MPP)[150, 305]
