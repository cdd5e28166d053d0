"""From the slide to the logits, against Hugging Face's own processor and model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, Gemma3ForConditionalGeneration

from reporters.memory import Memory
from reporters.prefill import prefill
from reporters.sequence import ReadTokens, Sequence, uniform
from reporters.writer import Writer
from tests.conftest import MakeSlide, as_slide
from tilers.tile import tile
from wsi_pipeline.encoders.encode import Encoder
from wsi_pipeline.models import find_checkpoint, pick_device
from wsi_pipeline.models.pixels import resize
from wsi_pipeline.settings import TileSettings
from wsi_pipeline.store.patches import PatchStore
from wsi_pipeline.store.tokens import TokenStore

_LOGITS, _LOGITS_END_TO_END = 1e-4, 3e-2
"""Largest difference allowed, relative to the largest logit: from the same pixels, and from the same patches, whose
resized pixels may differ by a grey level."""


@pytest.fixture
def patches(make_slide: MakeSlide) -> np.ndarray:
    path = make_slide()
    tile(as_slide(path), TileSettings(patch_size=128), path.with_name("p.zarr"))
    return PatchStore(path.with_name("p.zarr"))


@pytest.fixture(scope="module")
def writer(gemma: Path) -> Writer:
    return Writer(find_checkpoint(str(gemma)), "float32")


def tokens_of(gemma: Path, patches: PatchStore, per_patch: int = 4, batch: int = 5) -> ReadTokens:
    final = patches.path.with_name(f"t-{per_patch}-{batch}.zarr")
    Encoder(find_checkpoint(str(gemma)), "float32", batch).encode(patches, "p", per_patch, final)
    store = TokenStore(final)
    return lambda first, last: store.read(first, last, per_patch).reshape(-1, store.facts.dim)


def ours(writer: Writer, sequence: Sequence, tokens: ReadTokens) -> torch.Tensor:
    memory = Memory(writer.model.config.text_config, len(sequence.ids))
    return prefill(writer.model, sequence, tokens, memory).cpu()


def theirs(gemma: Path, sequence: Sequence, pixels: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """Logits behind the input, and 16 words, from pixels."""
    model = Gemma3ForConditionalGeneration.from_pretrained(gemma)
    ids = torch.from_numpy(sequence.ids)[None]
    given = {"input_ids": ids, "pixel_values": pixels, "token_type_ids": torch.from_numpy(sequence.types)[None]}
    with torch.inference_mode():
        logits = model(**given).logits[0, -1]
        words = model.generate(**given, max_new_tokens=16, do_sample=False)
    return logits, words[0, ids.shape[1] :].tolist()


def test_logits_from_the_same_pixels(gemma: Path, writer: Writer, patches: PatchStore) -> None:
    sequence = writer.grammar.sequence(uniform([len(patches)], 4), "Describe.")
    on_device = torch.from_numpy(np.asarray(patches.patches[:])).to(pick_device())
    pixels = resize(on_device, 56).cpu().float() / 127.5 - 1
    wanted, _ = theirs(gemma, sequence, pixels)
    found = ours(writer, sequence, tokens_of(gemma, patches))
    assert float((found - wanted).abs().max()) <= _LOGITS * float(wanted.abs().max())


def test_logits_and_text_from_the_same_patches(gemma: Path, writer: Writer, patches: PatchStore) -> None:
    processor = AutoImageProcessor.from_pretrained(gemma, use_fast=False)
    images = [Image.fromarray(patch) for patch in np.asarray(patches.patches[:])]
    pixels = torch.as_tensor(np.asarray(processor(images, return_tensors="np")["pixel_values"]))
    resized = resize(torch.from_numpy(np.asarray(patches.patches[:])), 56).float() / 127.5 - 1
    assert float((pixels.reshape(resized.shape) - resized).abs().max()) * 127.5 <= 1.01
    sequence = writer.grammar.sequence(uniform([len(patches)], 4), "Describe.")
    wanted, words = theirs(gemma, sequence, pixels.reshape(resized.shape))
    tokens = tokens_of(gemma, patches)
    found = ours(writer, sequence, tokens)
    assert float((found - wanted).abs().max()) <= _LOGITS_END_TO_END * float(wanted.abs().max())
    text = writer.write(sequence, tokens, 16).text
    assert text == writer.tokenizer.decode(words, skip_special_tokens=True)


def test_batches_and_pooling_change_nothing(gemma: Path, writer: Writer, patches: PatchStore) -> None:
    sequence = writer.grammar.sequence(uniform([len(patches)], 1), "Describe.")
    wanted = ours(writer, sequence, tokens_of(gemma, patches, 1, 64))
    tokens_of(gemma, patches, 4, 1)
    store = TokenStore(patches.path.with_name("t-4-1.zarr"))
    found = ours(writer, sequence, lambda first, last: store.read(first, last, 1)[:, 0])
    assert float((found - wanted).abs().max()) <= _LOGITS * float(wanted.abs().max())
