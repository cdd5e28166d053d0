"""A checkpoint on this machine: where it lies, which revision it is, whether it fits."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.memory import free_bytes

SHIPPED = {name: Path(__file__).parent / name for name in ("phantom", "phantom-long")}
PHANTOM_FOLDER = SHIPPED["phantom"]

_NOT_YET = (
    "accept the licence on the model's page, log in with `hf auth login`, and `hf download` it (`run` does that, too, "
    "without --dry-run); or point --model at a local checkpoint folder, or use --model none for measurements only"
)
_WAYS_ON = (
    "accept the licence on the model's page and log in with `hf auth login`, "
    "or point --model at a local checkpoint folder, or use --model none for measurements only"
)
_FLASH = (8, 0)
"""Compute capability from which PyTorch's flash attention runs, which reads long inputs."""
CALIBRATION = "wsi_calibration.json"
SECOND_READER = "second_reader.npz"
FIGURES = "training.json"
"""Beside a checkpoint, about it and no part of it."""
_HASHED_WHOLE = 64 * 2**20
BYTES = {"bfloat16": 2, "float32": 4}
"""Of a number, by arithmetic."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder.

    Attributes:
        name: as the user gave it.
        folder: where its files lie.
        revision: hub commit, or a hash of a local folder's weights and configuration.
    """

    name: str
    folder: Path
    revision: str

    @cached_property
    def config(self) -> dict[str, Any]:
        """`config.json`."""
        try:
            config: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise _damaged(self.name, "config.json", error) from None
        return config

    @property
    def weight_files(self) -> list[Path]:
        """Its safetensors files."""
        return sorted(self.folder.glob("*.safetensors"))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of its tensors, by their names, from the headers of the weight files."""
        shapes: dict[str, tuple[int, ...]] = {}
        for file in self.weight_files:
            try:
                shapes |= _shapes(file)
            except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
                raise _damaged(self.name, file.name, error) from None
        return shapes

    @property
    def parameters(self) -> int:
        """How many."""
        return sum(map(math.prod, self.shapes.values()))


def find_checkpoint(name: str, revision: str | None = None, download: bool = True) -> Checkpoint:
    """Locate a checkpoint, downloading a hub id if allowed.

    Args:
        name: `phantom`, `phantom-long`, a folder, or a hub id.
        revision: hub revision.
        download: False looks only at what is on this machine.

    Raises:
        ModelError: it cannot be had, with the ways on.
    """
    if name in SHIPPED:
        return _local(name, SHIPPED[name])
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local(name, folder)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(f"model {name!r}", "is no folder here and no hub id (owner/name)", _WAYS_ON)
    return _hub(name, revision, download)


def _local(name: str, folder: Path) -> Checkpoint:
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {name!r}", "has no config.json", "give the folder that holds config.json")
    if missing := _missing_weights(folder):
        raise ModelError(f"model {name!r}", f"has no {missing}", "save it with save_pretrained")
    return Checkpoint(name, folder, f"local-{_content_hash(folder)}")


def _hub(name: str, revision: str | None, download: bool) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    fetch = partial(
        snapshot_download,
        name,
        revision=revision,
        allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", SECOND_READER],
    )
    try:
        try:
            found = Path(str(fetch(local_files_only=True)))
            # a tokenizer alone may lie in the cache, or a download that was stopped
            absent = _missing_weights(found)
        except LocalEntryNotFoundError:
            if not download:
                raise
            absent = "files"
        if absent and download:
            found = Path(str(fetch()))
            absent = _missing_weights(found)
    except GatedRepoError:
        raise ModelError(f"model {name!r}", "is gated and its licence is not accepted here", _WAYS_ON) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        cause = "is not on this machine" if not download else f"cannot be downloaded ({type(error).__name__})"
        raise ModelError(f"model {name!r}", cause, _WAYS_ON if download else _NOT_YET) from None
    if absent:
        cause = f"has no {absent}, here" if download else f"is not on this machine whole: {absent} is missing"
        raise ModelError(f"model {name!r}", cause, _WAYS_ON if download else _NOT_YET)
    return Checkpoint(name, found, found.name)


def _missing_weights(folder: Path) -> str | None:
    """What of the weights is not in a folder; None when nothing is."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return None if list(folder.glob("*.safetensors")) else ".safetensors weights"
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        return f"readable {index.name}"
    return next((shard for shard in shards if not (folder / shard).is_file()), None)


def check_fits(checkpoint: Checkpoint, device: str, dtype: str) -> None:
    """Refuse weights that this machine cannot hold, with the arithmetic.

    Raises:
        ModelError: needed and available bytes, or a GPU without the kernels.
    """
    if device == "cuda" and dtype != "float32" and (found := _capability()) < _FLASH:
        raise ModelError(
            f"model {checkpoint.name!r}",
            f"needs a GPU of compute capability {'.'.join(map(str, _FLASH))} (Ampere) for {dtype}, and this one has "
            f"{'.'.join(map(str, found))}",
            "use --dtype float32 where it fits, or another GPU",
        )
    needed = checkpoint.parameters * BYTES[dtype]
    available = free_bytes(device)
    if needed > available:
        raise ModelError(
            f"model {checkpoint.name!r}",
            f"needs {needed / 2**30:.1f} GiB for {checkpoint.parameters / 1e9:.2f} G parameters in {dtype}, "
            f"and {device} has {available / 2**30:.1f} GiB free",
            "use a larger machine, --dtype bfloat16, a smaller --model, or --model none",
        )


def check_room(checkpoint: Checkpoint, device: str, dtype: str, tokens: int, memory: int, loaded: bool) -> None:
    """Refuse an input whose keys and values this machine cannot hold beside the weights, with the arithmetic.

    Args:
        checkpoint, device, dtype: what reads it, and where.
        tokens: of the input and its answer.
        memory: bytes that their keys and values take.
        loaded: whether the weights take their share of the device already.

    Raises:
        ModelError: needed and available bytes.
    """
    weights = checkpoint.parameters * BYTES[dtype]
    available = free_bytes(device)
    if memory + (0 if loaded else weights) > available:
        raise ModelError(
            f"model {checkpoint.name!r}",
            f"needs {memory / 2**30:.1f} GiB for the keys and values of {tokens:,} tokens beside {weights / 2**30:.1f} "
            f"GiB of weights in {dtype}, and {device} has {available / 2**30:.1f} GiB free",
            "use --plan windows, less of --max-patches, --fine-patches or --context-tokens, or a larger machine",
        )


def second_reader_of(folder: Path) -> str | None:
    """Fingerprint of the second reader beside a checkpoint, which is no part of its revision; None without."""
    file = folder / SECOND_READER
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else None


def pick_device() -> str:
    """`cuda` when there is one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_dtype(dtype: str, device: str) -> str:
    """`auto` is bfloat16 on a GPU and float32 on a CPU."""
    return dtype if dtype != "auto" else "bfloat16" if device == "cuda" else "float32"


def _capability() -> tuple[int, int]:
    import torch

    return torch.cuda.get_device_capability()


def _content_hash(folder: Path) -> str:
    """Hash of configuration, tokenizer and weights; files over 64 MiB count by size, time of change, and samples."""
    digest = hashlib.sha256()
    files = {p for pattern in ("*.json", "*.safetensors", "*.model") for p in folder.glob(pattern)}
    for file in sorted(files - {folder / CALIBRATION, folder / FIGURES}):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= _HASHED_WHOLE:
                digest.update(stream.read())
                continue
            digest.update(str(file.stat().st_mtime_ns).encode())
            for start in (0, size // 2, size - 2**20):
                stream.seek(start)
                digest.update(stream.read(2**20))
    return digest.hexdigest()[:16]


def _damaged(name: str, file: str, error: Exception) -> ModelError:
    cause = f"its {file} is damaged or a placeholder ({type(error).__name__})"
    return ModelError(f"model {name!r}", cause, "download or save the checkpoint again")


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > file.stat().st_size:
            raise ValueError("header longer than the file")
        header = json.loads(stream.read(size))
    return {
        name: tuple(int(length) for length in tensor["shape"])
        for name, tensor in header.items()
        if name != "__metadata__"
    }
