"""From patches to what a vision tower takes, and from its grid to T tokens: the same in use and in training."""

from __future__ import annotations

from math import isqrt

from torch import Tensor
from torch.nn import functional

from wsi_pipeline.errors import ModelError


def resize(patches: Tensor, pixels: int) -> Tensor:
    """(n, H, W, 3) uint8 to (n, 3, pixels, pixels) uint8: bilinear, antialiased, as the checkpoint's processor does."""
    images = patches.permute(0, 3, 1, 2)
    if images.shape[-1] == pixels == images.shape[-2]:
        return images
    # rounding to grey levels is part of what the checkpoint was trained on
    if images.is_cuda:  # where PyTorch has no kernel for uint8
        smooth = functional.interpolate(images.float(), (pixels, pixels), mode="bilinear", antialias=True)
        return smooth.round().clamp(0, 255).byte()
    return functional.interpolate(images.contiguous(), (pixels, pixels), mode="bilinear", antialias=True)


def pool_grid(grid: Tensor, tokens_per_patch: int) -> Tensor:
    """Average an (n, s·s, D) grid to (n, T, D), as Gemma 3's projector does before its norm."""
    side, target = isqrt(grid.shape[1]), isqrt(tokens_per_patch)
    if target * target != tokens_per_patch or side % max(target, 1):
        raise ModelError("tokens per patch", f"{tokens_per_patch} cannot be averaged from a {side}×{side} grid")
    k = side // target
    return grid.view(len(grid), target, k, target, k, -1).mean(dim=(2, 4)).flatten(1, 2)
