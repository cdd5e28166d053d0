"""How much memory a device has left, and whether an error says that there was none."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
_V2 = ("memory.max", "memory.current", "memory.stat")
_V1 = tuple(f"memory/memory.{name}" for name in ("limit_in_bytes", "usage_in_bytes", "stat"))


def free_bytes(device: str) -> int:
    """Of `cpu`, what the machine and the container that this runs in have left; of `cuda`, what the GPU has."""
    if device == "cpu":
        machine = int(psutil.virtual_memory().available)
        container = container_bytes(CGROUP)
        return machine if container is None else min(machine, container)
    import torch

    free, _ = torch.cuda.mem_get_info()
    # what PyTorch keeps for later is free, too
    return int(free) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def container_bytes(root: Path) -> int | None:
    """What is left of a container's limit, pages of files that can be let go included; None without a limit.

    Args:
        root: where the control groups of Linux are mounted, version 2 or 1.
    """
    for limit, used, stat in (_V2, _V1):
        try:
            most = int((root / limit).read_text())  # `max`, where there is none
            taken = int((root / used).read_text())
            lines = (line.split() for line in (root / stat).read_text().splitlines())
            held = {name: int(value) for name, value in lines}
        except (OSError, ValueError):
            continue
        files = [held.get(f"total_{kind}_file", held.get(f"{kind}_file", 0)) for kind in ("inactive", "active")]
        return most - taken + sum(files)
    return None


def ran_out(error: RuntimeError) -> bool:
    """Whether memory ran out, of a GPU or of the machine, for which PyTorch has no error of its own."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)
