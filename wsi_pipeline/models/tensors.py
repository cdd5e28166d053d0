"""Whether the weight files of a checkpoint hold the tensors that its configuration asks for."""

from __future__ import annotations

from functools import cache

from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import Checkpoint

_CONTAINERS = frozenset(("model", "language_model", "vision_model"))
"""Releases of transformers differ in which of these stand in the names of tensors."""
_TIED = "lm_head.weight"
"""The same as the embedding; few files hold it twice."""
_COMPUTED = ("position_ids", "inv_freq")
"""Ends of names of what older releases saved, and every release computes."""


@cache  # a run asks before its first tile, and again where the tower is loaded
def check_tensors(checkpoint: Checkpoint) -> None:
    """Compare names and shapes in the headers of the weight files with those of an empty model; reads no weight.

    Raises:
        ModelError: it is no Gemma 3 with vision, or tensors are missing, left over or of another shape.
    """
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = checkpoint.config
    if config.get("model_type") != "gemma3" or "vision_config" not in config:
        raise ModelError(
            f"model {checkpoint.name!r}",
            f"is a {config.get('model_type')!r} without a Gemma 3 vision tower",
            "use a Gemma 3 checkpoint with vision, such as MedGemma",
        )
    with torch.device("meta"):
        empty = Gemma3ForConditionalGeneration(Gemma3Config.from_dict(config))
    wanted = {_bare(name): tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    found = {_bare(name): shape for name, shape in checkpoint.shapes.items() if not name.endswith(_COMPUTED)}
    missing = sorted(wanted.keys() - found.keys() - {_TIED})
    extra = sorted(found.keys() - wanted.keys())
    other = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    if missing or extra or other:
        raise ModelError(
            f"model {checkpoint.name!r}",
            f"{len(missing)} tensors missing {missing[:2]}, {len(extra)} left over {extra[:2]}, "
            f"{len(other)} of another shape {other[:2]}",
            "download or save the checkpoint again",
        )


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _CONTAINERS)
