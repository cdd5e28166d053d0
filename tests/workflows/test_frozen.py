"""Slides and texts of a phantom version never change: whoever changes the generator raises its version."""

import hashlib

import numpy as np
import pytest

from workflows.phantom.drawing.cohort import PhantomCase, draw_case
from workflows.phantom.drawing.layout import lay_out
from workflows.phantom.drawing.slide import render
from workflows.phantom.pathology import ORGANS, VERSION

FROZEN = {
    3: {
        ("train", 0): "76c43a104ee5b0f4",
        ("calibration", 1): "0e1865e29fd4a3b5",
        ("test", 2): "cda1d596fa9541ee",
        ("demo", 3): "f13a6ba1b8b73af3",
    }
}
SIZE = {"width_mm": 2.4, "height_mm": 2.0}
DIAGNOSES = {
    3: {
        ("Colon", "No pathologic change"): "a379cec960433c79",
        ("Colon", "Tubular adenoma, low grade"): "a8a473c45d4b9b1f",
        ("Colon", "Hyperplastic polyp"): "557000001597c0ea",
        ("Colon", "Chronic active colitis"): "b399c145f5a511b9",
        ("Colon", "Adenocarcinoma, moderately differentiated"): "bec83326fb40ad19",
        ("Colon", "Adenocarcinoma, poorly differentiated"): "347ce77722733629",
        ("Breast", "Benign breast tissue"): "72b7a16f8cf3885b",
        ("Breast", "Fibroadenoma"): "ae544a9a158fdff0",
        ("Breast", "Ductal carcinoma in situ, high grade"): "d141318f8b6a01c6",
        ("Breast", "Invasive ductal carcinoma, grade 1"): "d84a37773ff1ac42",
        ("Breast", "Invasive ductal carcinoma, grade 2"): "bba621a61a90c892",
        ("Breast", "Invasive lobular carcinoma"): "28d2168a9181ff0e",
        ("Prostate", "Benign prostatic tissue"): "f6da17702607970b",
        ("Prostate", "Chronic prostatitis"): "8ee741fdeff8d48d",
        ("Prostate", "High grade prostatic intraepithelial neoplasia"): "f36688e6ea695534",
        ("Prostate", "Acinar adenocarcinoma, Gleason score 3 + 3 = 6"): "297c7d0eb8d6d31f",
        ("Prostate", "Acinar adenocarcinoma, Gleason score 4 + 4 = 8"): "ab64812016436c0a",
        ("Lymph node", "Reactive follicular hyperplasia"): "738aed1d06ca02c2",
        ("Lymph node", "Granulomatous lymphadenitis"): "26e1b34310d55168",
        ("Lymph node", "Follicular lymphoma, low grade"): "cd154f4a647a2ff5",
        ("Lymph node", "Diffuse large B cell lymphoma"): "fd90559ba26a7c1e",
        ("Lymph node", "Metastatic adenocarcinoma"): "ff6a7e1427620ab5",
    }
}
RESOLUTIONS = {3: {0.5: "eea2efd538c52142", 0.25: "29a504fde58b0832"}}


def fingerprint(case: PhantomCase, spread: bool = False) -> str:
    """Of a case's texts and of the first slide of each part, by means over 32 pixels, and their spread.

    Means, because the last bit of an exponential differs between processors; their spread, because a lesion has the
    light of the tissue around it.
    """
    digest = hashlib.sha256()
    for part in case.parts:
        digest.update(part.text.encode())
        layout = lay_out(part.slides[0])
        pixels = render(part.slides[0], layout)
        rows, columns = (n // 32 * 32 for n in pixels.shape[:2])
        blocks = pixels[:rows, :columns].reshape(rows // 32, 32, columns // 32, 32, 3)
        digest.update(np.rint(blocks.mean((1, 3))).astype(np.uint8).tobytes())
        if spread:
            digest.update(np.rint(blocks.std((1, 3))).astype(np.uint8).tobytes())
        digest.update(f"{(layout.lesion > 0).mean():.3f}".encode())
    return digest.hexdigest()[:16]


def changed(found: str) -> str:
    return f"phantom {VERSION} changed: raise VERSION and freeze it ({found})"


@pytest.mark.parametrize(("split", "seed"), list(FROZEN[VERSION]))
def test_a_version_is_frozen(split: str, seed: int) -> None:
    case = draw_case(seed, split, parts=2, slides=2, mpp=1.0, **SIZE)  # type: ignore[arg-type]
    found = fingerprint(case)
    assert found == FROZEN[VERSION][split, seed], changed(found)


@pytest.mark.parametrize(("organ", "diagnosis"), [(o.name, d.text) for o in ORGANS for d in o.diagnoses])
def test_every_diagnosis_is_frozen(organ: str, diagnosis: str) -> None:
    case = draw_case(11, "test", slides=1, organ=organ, diagnosis=diagnosis, mpp=1.0, **SIZE)
    found = fingerprint(case, spread=True)
    assert found == DIAGNOSES[VERSION][organ, diagnosis], changed(found)


@pytest.mark.parametrize("mpp", [0.5, 0.25])
def test_every_resolution_is_frozen(mpp: float) -> None:
    found = fingerprint(draw_case(12, "test", slides=1, mpp=mpp, factors=(4,), **SIZE), spread=True)
    assert found == RESOLUTIONS[VERSION][mpp], changed(found)
