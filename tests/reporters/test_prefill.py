"""Long inputs in chunks, against Hugging Face's own forward pass over the whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Gemma3ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from reporters.attention import CHUNKED
from reporters.memory import Memory, memory_bytes
from reporters.prefill import chunks, image_numbers, prefill
from reporters.sequence import Sequence, in_memory, uniform
from reporters.writer import Writer
from workflows.checkpoints import Model
from wsi_pipeline.cases import Part
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models import find_checkpoint, pick_device, resolve_dtype
from wsi_pipeline.models.checkpoint import BYTES
from wsi_pipeline.settings import ModelSettings, ReportSettings, RunSettings


@pytest.fixture(scope="module")
def writer(gemma: Path) -> Writer:
    return Writer(find_checkpoint(str(gemma)), "float32")


def rows(patches: int, tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(patches, tokens, 32)).astype(np.float32)


def whole(folder: Path, sequence: Sequence, features: np.ndarray) -> torch.Tensor:
    """Logits of every token, by one pass of Hugging Face's model with its own masks."""
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
    projector = model.model.multi_modal_projector
    with torch.inference_mode():
        soft = projector.mm_soft_emb_norm(torch.from_numpy(features)) @ projector.mm_input_projection_weight
        return model(
            input_ids=torch.from_numpy(sequence.ids)[None],
            token_type_ids=torch.from_numpy(sequence.types)[None],
            mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=soft)},
        ).logits[0]


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("most", [7, 16, 50, 10_000])
def test_any_chunk_gives_the_logits_of_one_pass(gemma: Path, writer: Writer, tokens: int, most: int) -> None:
    sequence = writer.grammar.sequence(uniform([20, 0, 13], tokens), "Describe.")
    features = rows(33, tokens)
    wanted = whole(gemma, sequence, features)[-1]
    memory = Memory(writer.model.config.text_config, len(sequence.ids))
    found = prefill(writer.model, sequence, in_memory(features), memory, most).cpu()
    assert memory.get_seq_length() == len(sequence.ids)
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("most", [7, 50, 10_000])
def test_patches_of_several_grids_are_read_side_by_side(gemma: Path, writer: Writer, most: int) -> None:
    grids = [[1, 4, 1, 1], [], [4, 4, 1] * 5]
    sequence = writer.grammar.sequence(grids, "Describe.")
    flat = np.concatenate([rows(1, t, seed)[0] for seed, t in enumerate(t for slide in grids for t in slide)])
    starts = np.concatenate([[0], sequence.grids.cumsum()])
    wanted = whole(gemma, sequence, flat[None])[-1]
    memory = Memory(writer.model.config.text_config, len(sequence.ids))
    found = prefill(writer.model, sequence, lambda a, b: flat[starts[a] : starts[b]], memory, most).cpu()
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("most", [7, 50, 10_000])
def test_positions_of_global_layers_count_on_from_chunk_to_chunk(gemma_with_positions: Path, most: int) -> None:
    writer = Writer(find_checkpoint(str(gemma_with_positions)), "float32")
    sequence, features = writer.grammar.sequence(uniform([20, 13], 4), "Describe."), rows(33, 4)
    wanted = whole(gemma_with_positions, sequence, features)[-1]
    memory = Memory(writer.model.config.text_config, len(sequence.ids))
    found = prefill(writer.model, sequence, in_memory(features), memory, most).cpu()
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("tokens", [1, 4])
def test_no_mask_reaches_attention_and_logits_are_of_the_last_token_alone(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    masks, shapes = [], []
    plain, forward = ALL_ATTENTION_FUNCTIONS[CHUNKED], writer.model.forward

    def watched(module, query, key, value, attention_mask, **rest):  # type: ignore[no-untyped-def]
        masks.append(attention_mask)
        return plain(module, query, key, value, attention_mask, **rest)

    def told(*args: object, **kwargs: object) -> object:
        out = forward(*args, **kwargs)
        shapes.append(out.logits.shape[1])
        return out

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, CHUNKED, watched)
    monkeypatch.setattr(writer.model, "forward", told)
    sequence = writer.grammar.sequence(uniform([60], tokens), "Describe.")
    memory = Memory(writer.model.config.text_config, len(sequence.ids))
    prefill(writer.model, sequence, in_memory(rows(60, tokens)), memory, 32)
    assert len(shapes) > 1
    assert set(shapes) == {1}
    assert len(masks) == len(shapes) * writer.model.config.text_config.num_hidden_layers
    assert all(mask is None for mask in masks)


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(1, 9))
def test_chunks_cover_the_input_and_divide_no_image(lengths: list[int], most: int) -> None:
    types = np.array([kind for n in lengths for kind in [0] + [1] * n], np.int64)
    found = list(chunks(types, most))
    assert [i for first, last in found for i in range(first, last)] == list(range(len(types)))
    images = image_numbers(types)
    for first, last in found:
        inside = set(images[first:last]) - {-1}
        assert not inside & (set(images[:first]) | set(images[last:]))
        assert last - first <= most or len(set(images[first:last])) == 1


def test_memory_is_what_the_arithmetic_says(writer: Writer) -> None:
    config = writer.model.config.text_config
    sequence = writer.grammar.sequence(uniform([150], 4), "Describe.")
    room = len(sequence.ids)
    memory = Memory(config, room)
    prefill(writer.model, sequence, in_memory(rows(150, 4)), memory, 64)
    assert memory.stored() == memory_bytes(config, room, "float32")
    assert room > 5 * config.sliding_window


def test_a_4b_takes_20_kib_per_token() -> None:
    from transformers import Gemma3TextConfig

    config = Gemma3TextConfig(num_hidden_layers=34, num_key_value_heads=4, head_dim=256, sliding_window=1024)
    step = memory_bytes(config, 200_001, "bfloat16") - memory_bytes(config, 200_000, "bfloat16")
    assert step == pytest.approx(20 * 1024, rel=0.1)


def test_tokens_are_read_chunk_by_chunk(writer: Writer) -> None:
    features, asked = rows(40, 4), []

    def read(first: int, last: int) -> np.ndarray:
        asked.append(last - first)
        return features[first:last].reshape(-1, features.shape[2])

    sequence = writer.grammar.sequence(uniform([40], 4), "Describe.")
    memory = Memory(writer.model.config.text_config, len(sequence.ids))
    prefill(writer.model, sequence, read, memory, 32)
    assert sum(asked) == 40
    assert max(asked) <= 6


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
)
def test_a_chunk_without_memory_is_read_in_halves(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    sequence = writer.grammar.sequence(uniform([90], 4), "Describe.")
    features, config = in_memory(rows(90, 4)), writer.model.config.text_config
    wanted = prefill(writer.model, sequence, features, Memory(config, len(sequence.ids)), 150)
    forward, tried = writer.model.forward, []

    def scarce(*args: object, **kwargs: object) -> object:
        out = forward(*args, **kwargs)
        tried.append(kwargs["input_ids"].shape[1])
        if tried[-1] > 100:
            raise error  # after layers were written to
        return out

    monkeypatch.setattr(writer.model, "forward", scarce)
    found = prefill(writer.model, sequence, features, Memory(config, len(sequence.ids)), 400)
    assert max(tried) > 100
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_other_errors_are_not_taken_for_a_lack_of_memory(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = writer.grammar.sequence(uniform([9], 4), "Describe.")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(writer.model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        prefill(
            writer.model, sequence, in_memory(rows(9, 4)), Memory(writer.model.config.text_config, len(sequence.ids))
        )


def test_an_input_that_this_machine_cannot_hold_is_refused_before_loading(
    gemma: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(ModelSettings(name=str(gemma)))
    assert model.checkpoint
    weights = BYTES[resolve_dtype("auto", pick_device())] * model.checkpoint.parameters
    monkeypatch.setattr("wsi_pipeline.models.checkpoint.free_bytes", lambda _: weights + 300_000)
    assert model.plan(Part(None, ()), {"s": 3}, RunSettings(report=ReportSettings(max_new_tokens=10)))
    with pytest.raises(ModelError, match=r"GiB for the keys and values of [\d,]+ tokens beside .* GiB of weights"):
        model.plan(Part(None, ()), {"s": 500}, RunSettings())
    assert "writer" not in vars(model)
