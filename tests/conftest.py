"""Generated slides and small checkpoints for all tests; nothing here needs a network or real slides."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # each core has a process of tests: threads beyond that wait for each other, which takes half the time again
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from reporters.profiles import Profile
from reporters.training.build import Shape, build_model, build_tokenizer, save_checkpoint
from workflows.phantom.drawing.cohort import draw_case, write_cases
from wsi_pipeline.cases import Slide

# a machine that is busy is no failure
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def _real_slides() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "slides"
    return Path(os.environ.get("WSI_PIPELINE_REAL_SLIDES", default))


@pytest.fixture(scope="session")
def real_slides() -> Path:
    folder = _real_slides()
    if not folder.is_dir():
        pytest.skip(f"no real slides at {folder}; set WSI_PIPELINE_REAL_SLIDES")
    return folder


def tissue_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """White glass with a pink, textured ellipse on it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    inside = ((x / width - 0.5) / 0.38) ** 2 + ((y / height - 0.5) / 0.38) ** 2 < 1
    coarse = rng.normal(0, 18, (height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    image = np.full((height, width, 3), 243, np.float32)
    image[inside] = np.array([205.0, 120.0, 175.0]) + coarse[inside][:, None]
    noise = np.resize(rng.normal(0, 2, 65_521).astype(np.float32), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


MakeSlide = Callable[..., Path]


@pytest.fixture
def make_slide(tmp_path: Path) -> MakeSlide:
    """Write a pyramidal SVS or plain TIFF of given pixels."""

    def make(
        name: str = "slide.svs",
        image: NDArray[np.uint8] | None = None,
        mpp: float | None = 0.5,
        power: float | None = 20,
        factors: tuple[int, ...] = (4,),
        tile: int = 256,
        compression: str | None = "jpeg",
        resolution: float | None = None,
        description: str | None = None,
    ) -> Path:
        pixels = tissue_image(1600, 2000) if image is None else image
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stated = "".join([f"|AppMag = {power:g}" if power else "", f"|MPP = {mpp:g}" if mpp else ""])
        with tifffile.TiffWriter(path) as writer:
            for factor in (1, *factors):
                level = np.asarray(Image.fromarray(pixels).reduce(factor))
                size = f"{pixels.shape[1]}x{pixels.shape[0]} [0,0 {level.shape[1]}x{level.shape[0]}]"
                header = f"Aperio Image Library v11.2.1 \r\n{size} ({tile}x{tile}) JPEG/RGB Q=90{stated}"
                text = description if description is not None else header if path.suffix == ".svs" else None
                writer.write(
                    level,
                    tile=(tile, tile),
                    compression=compression,
                    compressionargs={"level": 90} if compression == "jpeg" else None,
                    photometric="rgb",
                    subfiletype=0 if factor == 1 else 1,
                    description=text,
                    metadata=None,
                    resolution=(10000 / resolution,) * 2 if resolution else None,
                    resolutionunit="CENTIMETER" if resolution else None,
                )
        return path

    return make


def as_slide(path: Path, mpp: float | None = None) -> Slide:
    return Slide(path.stem, path, mpp=mpp)


@pytest.fixture(scope="session")
def phantom_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small phantom cases: three slides with a lesion, and one without.

    They hold no distractors: how well the model tells those from lesions is for benchmarks to say.
    """
    root = tmp_path_factory.mktemp("phantom")
    size = {"width_mm": 2.4, "height_mm": 2.0, "mpp": 1.0, "factors": (4,), "distractors": False}
    sick = draw_case(
        900_000, "test", slides=3, organ="Colon", diagnosis="Tubular adenoma, low grade", extent="focal", **size
    )
    well = draw_case(900_001, "test", slides=1, organ="Prostate", diagnosis="Benign prostatic tissue", **size)
    write_cases(root, [sick, well])
    return root


GEMMA_PROFILE = Profile(
    name="test-gemma",
    native_tokens=16,
    trained_tokens=(16,),
    context=1024,
    strategy="windows",
    patch_size=768,
    mpps=(1.0,),
    opening="<bos><start_of_turn>user\n",
    slide_marker="",
    prompt="Describe.\nTissue: {tissue}",
    merge_prompt="{findings}\nMerge.",
    closing="<end_of_turn>\n<start_of_turn>model\n",
    end="<end_of_turn>",
)

WORDS = "Slide 1: 2: 3 user model Describe. Tissue: colon Merge. F1 F2, carcinoma benign glands of the in and . \n\n[]"


@pytest.fixture(scope="session")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of MedGemma's classes, without a card, so that the family's profile applies."""
    folder = tmp_path_factory.mktemp("gemma") / "tiny-gemma"
    tokenizer = build_tokenizer([WORDS])
    shape = Shape(pixels=56, vision_hidden=32, vision_layers=1, native_tokens=4, hidden=64, layers="SSF", context=2048)
    save_checkpoint(folder, build_model(shape, tokenizer, seed=3), tokenizer, GEMMA_PROFILE, shape)
    (folder / "wsi_profile.json").unlink()
    return folder


@pytest.fixture
def gemma_with_positions(gemma: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint, with rotary positions in its global layers; those of the phantom have none."""
    folder = shutil.copytree(gemma, tmp_path / "tiny gemma with positions")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["rope_parameters"]["full_attention"] = {"rope_type": "default", "rope_theta": 10_000.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
