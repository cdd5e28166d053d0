"""The vision tower of a Gemma 3 checkpoint, alone: uint8 patches in, a grid of vectors out."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from wsi_pipeline.models import Checkpoint, check_tensors
from wsi_pipeline.models.pixels import pool_grid, resize

_PREFIX = "vision_tower."


class VisionTower(nn.Module):
    """A SigLIP tower with the preprocessing its checkpoint asks for.

    Attributes:
        pixels: edge of the image it takes.
        native: tokens per patch that the checkpoint's language model was built for.
        dim: length of a vector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tower: nn.Module, pixels: int, native: int, dim: int, mean: list[float], std: list[float]):
        super().__init__()
        self.tower, self.pixels, self.native, self.dim = tower, pixels, native, dim
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, patches: Tensor, tokens_per_patch: int) -> Tensor:
        """(n, P, P, 3) uint8 to (n, T, D): resize, normalise, encode, average the grid to T."""
        pixels = resize(patches, self.pixels).float() / 255
        pixels = ((pixels - self.mean) / self.std).to(next(self.tower.parameters()).dtype)
        grid = self.tower(pixel_values=pixels).last_hidden_state
        return pool_grid(grid, tokens_per_patch)


def load_tower(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> VisionTower:
    """Load only the vision tower's tensors.

    Raises:
        ModelError: see `check_tensors`.
    """
    from transformers import SiglipVisionConfig, SiglipVisionModel

    check_tensors(checkpoint)
    config = checkpoint.config
    vision = SiglipVisionConfig.from_dict(config["vision_config"])
    with torch.device("meta"):
        tower = SiglipVisionModel(vision)
    tensors = _tower_tensors(checkpoint, tower.state_dict().keys())
    tower.load_state_dict(tensors, strict=True, assign=True)
    for name, buffer in SiglipVisionModel(_one_layer(vision)).named_buffers():
        owner, _, leaf = name.rpartition(".")
        tower.get_submodule(owner).register_buffer(leaf, buffer, persistent=False)
    mean, std = _normalisation(checkpoint)
    model = VisionTower(
        tower, vision.image_size, int(config.get("mm_tokens_per_image", 256)), vision.hidden_size, mean, std
    )
    return model.to(device=device, dtype=dtype).eval()


def _one_layer(vision: Any) -> Any:
    """The same embeddings, cheap to build: position ids are buffers that no weight file holds."""
    return type(vision).from_dict({**vision.to_dict(), "num_hidden_layers": 1})


def _tower_tensors(checkpoint: Checkpoint, wanted: Container[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    inner = "vision_model."
    for file in checkpoint.weight_files:
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a dict
                _, prefix, name = key.partition(_PREFIX)
                if not prefix:
                    continue
                # releases of transformers differ in whether the inner module is named
                alternatives = (name, name.removeprefix(inner), inner + name)
                if (known := next((n for n in alternatives if n in wanted), None)) is not None:
                    found[known] = tensors.get_tensor(key)
    return found


def _normalisation(checkpoint: Checkpoint) -> tuple[list[float], list[float]]:
    for file, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        path = checkpoint.folder / file
        if path.is_file():
            content = json.loads(path.read_text())
            content = content.get(key, {}) if key else content
            if "image_mean" in content:
                return content["image_mean"], content["image_std"]
    return [0.5] * 3, [0.5] * 3
