"""Find a checkpoint: the shipped phantom, a local folder or a hub id; say early when it cannot be had."""

from wsi_pipeline.models.checkpoint import (
    Checkpoint,
    check_fits,
    check_room,
    find_checkpoint,
    pick_device,
    resolve_dtype,
)
from wsi_pipeline.models.tensors import check_tensors

__all__ = ["Checkpoint", "check_fits", "check_room", "check_tensors", "find_checkpoint", "pick_device", "resolve_dtype"]
