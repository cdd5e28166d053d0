import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, Gemma3ForConditionalGeneration

from tests.conftest import MakeSlide, as_slide
from tilers.tile import tile
from wsi_pipeline.encoders.encode import Encoder
from wsi_pipeline.encoders.vision import load_tower
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models import check_fits, find_checkpoint, pick_device
from wsi_pipeline.models.pixels import pool_grid, resize
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore


@pytest.fixture
def patches(make_slide: MakeSlide) -> PatchStore:
    path = make_slide()
    tile(as_slide(path), TileSettings(), path.with_name("p.zarr"))
    return PatchStore(path.with_name("p.zarr"))


def encoded(gemma: Path, patches: PatchStore, tokens: int, batch: int | None = None) -> TokenStore:
    final = patches.path.with_name(f"t-{tokens}-{batch}.zarr")
    Encoder(find_checkpoint(str(gemma)), "float32", batch).encode(patches, "p", tokens, final)
    return TokenStore(final)


def test_stored_tokens_give_the_features_of_hugging_face(gemma: Path, patches: PatchStore) -> None:
    """From the same resized pixels: projector(stored tokens) equals `get_image_features`."""
    store = encoded(gemma, patches, 4)
    model = Gemma3ForConditionalGeneration.from_pretrained(gemma)
    on_device = torch.from_numpy(np.asarray(patches.patches[:])).to(pick_device())
    pixels = resize(on_device, 56).cpu().float() / 127.5 - 1
    with torch.inference_mode():
        wanted = model.get_image_features(pixels).pooler_output
        projector = model.model.multi_modal_projector
        tokens = torch.from_numpy(store.read(0, len(store), 4))
        found = projector.mm_soft_emb_norm(tokens) @ projector.mm_input_projection_weight
    assert float((found - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


def test_pixels_are_within_a_grey_level_of_the_processors(gemma: Path, patches: PatchStore) -> None:
    processor = AutoImageProcessor.from_pretrained(gemma, use_fast=False)
    image = Image.fromarray(np.asarray(patches.patches[0]))
    wanted = torch.as_tensor(np.asarray(processor(image, return_tensors="np")["pixel_values"])).reshape(1, 3, 56, 56)
    found = resize(torch.from_numpy(np.asarray(patches.patches[:1])), 56).float() / 127.5 - 1
    assert float((found - wanted).abs().max()) * 127.5 <= 1.01


def test_coarser_tokens_are_means_of_finer_ones(gemma: Path, patches: PatchStore) -> None:
    fine, coarse = encoded(gemma, patches, 4), encoded(gemma, patches, 1)
    assert np.allclose(fine.read(0, len(fine), 1), coarse.read(0, len(coarse), 1), atol=1e-5)


def test_batch_size_changes_nothing_that_matters(gemma: Path, patches: PatchStore) -> None:
    one, many = encoded(gemma, patches, 4, 1), encoded(gemma, patches, 4, 64)
    assert np.allclose(one.tokens[:], many.tokens[:], atol=1e-5)


def test_out_of_memory_halves_the_batch_and_goes_on(
    gemma: Path, make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_slide()
    tile(as_slide(path), TileSettings(patch_size=64, min_tissue=0), path.with_name("small.zarr"))
    patches = PatchStore(path.with_name("small.zarr"))
    wanted = encoded(gemma, patches, 4, 8)
    encoder = Encoder(find_checkpoint(str(gemma)), "float32", 8)
    whole, batches = encoder.tower.forward, []

    def scarce(pixels: torch.Tensor, tokens: int) -> torch.Tensor:
        batches.append(len(pixels))
        if len(pixels) > 2 and len(batches) > 1:  # the first batch is still to be fetched
            raise torch.OutOfMemoryError("no room")
        return whole(pixels, tokens)

    monkeypatch.setattr(encoder.tower, "forward", scarce)
    final = patches.path.with_name("t.zarr")
    encoder.encode(patches, "p", 4, final)
    assert encoder.batches.size == 2
    assert batches[:5] == [8, 8, 4, 2, 2]
    assert np.allclose(TokenStore(final).tokens[:], wanted.tokens[:], atol=1e-5)


@pytest.mark.parametrize("tokens", [2, 9, 64])
def test_a_grid_that_does_not_divide_is_refused(tokens: int) -> None:
    with pytest.raises(ModelError, match="cannot be averaged"):
        pool_grid(torch.zeros(1, 16, 8), tokens)


def test_tensors_of_another_shape_are_named(gemma: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(gemma, tmp_path / "other")
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if "patch_embedding.bias" in n)
    save_file(tensors | {name: tensors[name][:-1].clone()}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 of another shape \['.*patch_embedding.bias'\]"):
        load_tower(find_checkpoint(str(folder)), "cpu", torch.float32)


def test_missing_tensors_are_named(gemma: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(gemma, tmp_path / "cut")
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if "patch_embedding.bias" in n)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors missing.*patch_embedding\.bias"):
        load_tower(find_checkpoint(str(folder)), "cpu", torch.float32)


def test_tensors_may_be_named_as_other_releases_name_them(gemma: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(gemma, tmp_path / "renamed")
    tensors = load_file(folder / "model.safetensors")
    bare = {re.sub(r"^model\.|language_model\.(model\.)?|vision_model\.", "", name): t for name, t in tensors.items()}
    renamed = {
        re.sub(r"^(?!vision_tower|multi_modal|lm_head)", "model.language_model.", name)
        .replace("vision_tower.", "model.vision_tower.vision_model.")
        .replace("multi_modal_", "model.multi_modal_"): tensor
        for name, tensor in bare.items()
    }
    assert len(renamed) == len(tensors)
    assert renamed.keys() != tensors.keys()
    renamed["model.vision_tower.vision_model.embeddings.position_ids"] = torch.arange(4)[None]
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    one, other = (load_tower(find_checkpoint(str(f)), "cpu", torch.float32) for f in (gemma, folder))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_run_refuses_tensors_of_the_writer_that_are_not_there_before_its_first_tile(
    gemma: Path, tmp_path: Path, make_slide: MakeSlide
) -> None:
    from safetensors.torch import load_file, save_file

    import wsi_pipeline as wp

    folder = shutil.copytree(gemma, tmp_path / "cut")
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if "layers.1.mlp.up_proj" in n and "vision" not in n)
    tensors["left.over"] = tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors missing \['layers.1.mlp.up_proj.weight'\], 1 left over \['left"):
        wp.run(make_slide(), tmp_path / "out", model=str(folder))
    assert not list(tmp_path.glob("out/**/*.zarr"))


@pytest.mark.parametrize("name", ["/nowhere/at/all", "neither", "./gone"])
def test_a_model_that_is_nowhere_is_refused_with_the_ways_on(name: str) -> None:
    with pytest.raises(ModelError, match=r"licence.*--model none"):
        find_checkpoint(name)


def test_a_hub_model_that_is_not_here_is_refused_without_network() -> None:
    with pytest.raises(ModelError, match=r"medgemma-1\.5-4b-it.*not on this machine.*licence"):
        find_checkpoint("google/medgemma-1.5-4b-it", download=False)


def in_the_cache(gemma: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a hub model in a cache of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    shutil.copytree(gemma, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("a" * 40)
    return snapshot


def test_half_a_model_in_the_cache_is_not_the_model(
    gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = in_the_cache(gemma, monkeypatch, tmp_path)
    assert find_checkpoint("owner/tiny", download=False).parameters > 0
    shards = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(shards))
    with pytest.raises(ModelError, match=r"not on this machine whole: model-2\.safetensors is missing"):
        find_checkpoint("owner/tiny", download=False)
    (snapshot / "model.safetensors.index.json").unlink()
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"whole: \.safetensors weights is missing"):
        find_checkpoint("owner/tiny", download=False)


def test_a_gpu_without_flash_attention_is_refused(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_pipeline.models.checkpoint._capability", lambda: (7, 5))
    with pytest.raises(ModelError, match=r"8\.0 \(Ampere\) for bfloat16, and this one has 7\.5"):
        check_fits(find_checkpoint(str(gemma)), "cuda", "bfloat16")


def test_a_model_too_big_is_refused_with_the_arithmetic(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = find_checkpoint(str(gemma))
    monkeypatch.setattr("wsi_pipeline.models.checkpoint.free_bytes", lambda device: 1000)
    with pytest.raises(ModelError, match=r"needs .* GiB for .* parameters in float32, and cpu has 0.0 GiB free"):
        check_fits(checkpoint, "cpu", "float32")
