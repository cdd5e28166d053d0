"""Encoder, prefill and decoding in the shapes of MedGemma 4B with random weights, beside what the device can do.

python benchmarks/gpu.py [--small] [--only encoder|writer] [--json]

Nothing is downloaded: models are built from their configuration. Floors are counted: operations of the encoder and of
prefill over the measured rate of matrix products, bytes of weights and memory over the measured rate of copying.
`--small` runs the same on tiny shapes, to try the script.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import click
import machine
import numpy as np
import torch
from numpy.typing import NDArray
from slides import BigSlide, write_big_slide
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig
from transformers import SiglipVisionModel as Siglip

from reporters.attention import LOOKING
from reporters.memory import Memory
from reporters.prefill import CHUNK, prefill
from reporters.sequence import Sequence
from tilers.tile import tile
from wsi_pipeline.cases import Slide
from wsi_pipeline.encoders.batches import Batches
from wsi_pipeline.encoders.vision import VisionTower
from wsi_pipeline.models.operations import of_encoding, of_reading
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore

SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
          "patch_size": 14, "vision_use_head": False}  # fmt: skip
"""SigLIP-So400m/14, the tower of Gemma 3 and MedSigLIP: config.json of google/gemma-3-4b-it."""
TEXT_4B = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
           "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 1024, "vocab_size": 262_208}  # fmt: skip
"""Of the same."""
_SOFT = 7


@dataclass(frozen=True)
class Row:
    """One measurement: the rate or time, what the device allows, and peak memory in GiB."""

    what: str
    measured: float
    unit: str
    floor: float
    share: float
    gib: float


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    tower: dict[str, object]
    text: dict[str, object]
    pixels: tuple[int, ...]
    batch: int
    patches: int
    lengths: tuple[int, ...]
    product: int


FULL = Sizes(SO400M, TEXT_4B, (448, 896), 32, 1024, (32_768, 131_072, 524_288, 1_048_576), 8192)
SMALL = Sizes(
    {**SO400M, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    {**TEXT_4B, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_key_value_heads": 1,
     "num_attention_heads": 2, "head_dim": 32, "sliding_window": 64, "vocab_size": 512},
    (56, 112), 4, 16, (512, 2048), 512,
)  # fmt: skip


class Device:
    """Where it runs, and what that can do."""

    def __init__(self, product: int) -> None:
        self.name = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = torch.bfloat16 if self.name == "cuda" else torch.float32
        a, b = (torch.randn(product, product, device=self.name, dtype=self.dtype) for _ in range(2))
        self.flops = 2 * product**3 / self.seconds(lambda: a @ b, 10)
        self.bytes = 2 * a.nbytes / self.seconds(lambda: b.copy_(a), 10)

    def seconds(self, work: Callable[[], object], times: int = 1) -> float:
        """Of one call, after one to warm up."""
        work()
        self.wait()
        started = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - started) / times

    def wait(self) -> None:
        """Until all is done."""
        if self.name == "cuda":
            torch.cuda.synchronize()

    def fresh(self) -> None:
        """Forget the peak."""
        if self.name == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    @property
    def peak_gib(self) -> float:
        """Since `fresh`; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.name == "cuda" else 0.0

    def describe(self) -> str:
        """Name and measured rates."""
        name = torch.cuda.get_device_name() if self.name == "cuda" else machine.describe()
        return f"{name}: {self.flops / 1e12:.2f} TFLOP/s in {self.dtype}, {self.bytes / 1e9:.1f} GB/s"


def measure_encoder(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Patches per second from memory, and from a patch store."""
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        yield from _encoding(device, sizes, make_store(Path(folder), sizes.patches))


def _encoding(device: Device, sizes: Sizes, store: PatchStore) -> Iterator[Row]:
    for pixels in sizes.pixels:
        config = SiglipVisionConfig(**sizes.tower, image_size=pixels)
        with torch.device(device.name):
            inner = Siglip(config)
        tower = VisionTower(inner, pixels, 256, config.hidden_size, [0.5] * 3, [0.5] * 3)
        tower = tower.to(device=device.name, dtype=device.dtype).eval()
        grids = [t for t in (256, 16) if (pixels // config.patch_size) % math.isqrt(t) == 0]
        floor = device.flops / of_encoding(config)
        batch = torch.randint(0, 256, (sizes.batch, 768, 768, 3), dtype=torch.uint8, device=device.name)
        device.fresh()
        with torch.inference_mode():
            for tokens in grids:
                rate = sizes.batch / device.seconds(lambda t=tower, b=batch, n=tokens: t(b, n), 5)
                what = f"encoder {pixels} px, T={tokens}, from memory"
                yield Row(what, rate, "patches/s", floor, rate / floor, device.peak_gib)
                rate = _fed(Batches(tower, sizes.batch), store, tokens)
                what = f"encoder {pixels} px, T={tokens}, from a store"
                yield Row(what, rate, "patches/s", floor, rate / floor, device.peak_gib)


def _fed(batches: Batches, store: PatchStore, tokens: int) -> float:
    """As the encoding stage does."""
    started = time.perf_counter()
    done = sum(map(len, batches.tokens(store, tokens)))
    return done / (time.perf_counter() - started)


def make_store(folder: Path, patches: int) -> PatchStore:
    """At least so many patches of a slide at 10X."""
    edge = 768 * math.isqrt(patches * 2)
    write_big_slide(folder / "s.svs", BigSlide("10X", 1.0, 256, ()), edge, edge)
    tile(Slide("s", folder / "s.svs"), TileSettings(), folder / "s.zarr", os.cpu_count() or 1)
    return PatchStore(folder / "s.zarr")


def measure_writer(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Prefill of several lengths, all soft tokens at T = 1, and 32 words after each; then of one at T = 16."""
    text = Gemma3TextConfig(**sizes.text)
    vision = SiglipVisionConfig(**{**sizes.tower, "num_hidden_layers": 1}, image_size=224)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=16, image_token_index=_SOFT)
    with torch.device(device.name):
        model = Gemma3ForConditionalGeneration(config).to(device.dtype).eval()
    # transformers begins with zeros here, and a device that multiplies zeros is faster than it is
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.02)
    weight_bytes = sum(p.nbytes for p in model.model.language_model.parameters())
    rows = np.random.default_rng(0).standard_normal((CHUNK[device.name], vision.hidden_size), np.float32)
    warm = min(sizes.lengths)
    prefill(model, _of_patches(warm, 1), partial(_tokens, rows, 1), Memory(text, warm))
    for length, tokens in [*((length, 1) for length in sizes.lengths), (sizes.lengths[1], 16)]:
        sequence = _of_patches(length, tokens)
        device.fresh()
        memory = Memory(text, length + 64)
        started = time.perf_counter()
        prefill(model, sequence, partial(_tokens, rows, tokens), memory)
        device.wait()
        seconds = time.perf_counter() - started
        floor = of_reading(text, length) / device.flops
        yield Row(f"prefill {length:,} tokens, T={tokens}", seconds, "s", floor, floor / seconds, device.peak_gib)
        if tokens > 1:
            continue
        rate, floor = _decode(device, model, memory, weight_bytes)
        yield Row(f"decode after {length:,}", rate, "tokens/s", floor, rate / floor, device.peak_gib)
        del memory


def _of_patches(length: int, tokens: int) -> Sequence:
    """Patches of so many soft tokens, each after a word; nothing but patches where each is one token."""
    words = min(tokens - 1, 1)
    patches = length // (words + tokens)
    soft = np.tile([0] * words + [1] * tokens, patches)
    # one token attends within no image
    types = soft * words
    return Sequence(np.where(soft, _SOFT, 1), types, np.flatnonzero(soft), np.full(patches, tokens), ())


def _tokens(rows: NDArray[np.float32], tokens: int, first: int, last: int) -> NDArray[np.float32]:
    return rows[: (last - first) * tokens]


@torch.inference_mode()
def _decode(device: Device, model: Gemma3ForConditionalGeneration, memory: Memory, weights: int) -> tuple[float, float]:
    """Words per second as they are written, and as many as reading weights and memory once per word allows."""
    model.set_attn_implementation({"text_config": LOOKING})
    token = torch.ones(1, 1, dtype=torch.long, device=device.name)

    def step() -> None:
        model(input_ids=token, past_key_values=memory, use_cache=True, output_attentions=True)
        memory.commit()

    return 1 / device.seconds(step, 32), device.bytes / (weights + memory.stored())


@click.command()
@click.option("--small", is_flag=True, help="Tiny shapes.")
@click.option("--only", type=click.Choice(["encoder", "writer"]), help="Half of it.")
@click.option("--json", "as_json", is_flag=True)
def main(small: bool, only: str | None, as_json: bool) -> None:
    """Measure and print."""
    sizes = SMALL if small else FULL
    device = Device(sizes.product)
    if not as_json:
        print(device.describe())
        print(f"{'':38}{'measured':>12}{'':>11}{'possible':>12}{'of it':>7}{'peak GiB':>10}", flush=True)
    rows = []
    halves = {"encoder": measure_encoder, "writer": measure_writer}
    chosen = [half for name, half in halves.items() if only in (None, name)]
    for row in chain.from_iterable(half(device, sizes) for half in chosen):
        rows.append(row)
        if not as_json:
            rates = f"{row.measured:>12.2f} {row.unit:10}{row.floor:>12.2f}{row.share:>7.0%}"
            print(f"{row.what:38}{rates}{row.gib:>10.1f}", flush=True)
    if as_json:
        print(json.dumps({"device": device.describe(), "rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
