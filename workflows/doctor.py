"""Is this machine ready? Libraries, device, model access, disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from workflows.checkpoints import Model
from wsi_pipeline.errors import PipelineError
from wsi_pipeline.settings import ModelSettings

_LIBRARIES = (
    "openslide-python", "openslide-bin", "tiffslide", "tifffile", "zarr", "numpy", "torch", "transformers", "dask",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One finding; `ok` is False when a run would fail of it."""

    ok: bool
    text: str


def examine(model: ModelSettings, out: Path | None) -> Iterator[Check]:
    """Checks, one by one. Nothing is downloaded."""
    for name in _LIBRARIES:
        try:
            yield Check(True, f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Check(False, f"{name} is not installed; run `make demo` or `pip install wsi-pipeline`")
    try:
        import openslide
        import torch
    except (ImportError, OSError) as error:
        yield Check(False, f"a library cannot be loaded ({error}); run `make demo` or `pip install wsi-pipeline`")
        return
    yield Check(True, f"libopenslide {openslide.__library_version__}")
    if torch.cuda.is_available():
        yield Check(True, f"GPU {torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 2**30:.0f} GiB")
    else:
        yield Check(True, f"no GPU; {torch.get_num_threads()} CPU threads")
    memory = psutil.virtual_memory()
    yield Check(True, f"memory {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    yield _model(model)
    if out is not None:
        where = next(p for p in (out, *out.absolute().parents) if p.exists())
        free = shutil.disk_usage(where).free
        yield Check(free > 2**30, f"disk of {out}: {free / 2**30:.1f} GiB free, about {free // 210_000:,} patches")


def _model(settings: ModelSettings) -> Check:
    try:
        model = Model(settings, download=False)
        model.check()
    except PipelineError as error:
        return Check(False, str(error))
    if model.checkpoint is None:
        return Check(True, "no model: measurements only")
    size = model.checkpoint.parameters / 1e6
    assert model.profile
    return Check(True, f"model {settings.name}: {size:,.1f} M parameters, profile {model.profile.name}, {model.dtype}")
