"""The writer against Hugging Face's own path, on random checkpoints of MedGemma's classes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from reporters.positions import stretch, stretched
from reporters.sequence import Sequence, in_memory, uniform
from reporters.writer import Writer
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models import find_checkpoint


@pytest.fixture(scope="module")
def writer(gemma: Path) -> Writer:
    return Writer(find_checkpoint(str(gemma)), "float32")


def features(patches: int, tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(patches, tokens, 32)).astype(np.float32)


def by_hugging_face(folder: Path, sequence: Sequence, tokens: np.ndarray, length: int) -> list[int]:
    model = Gemma3ForConditionalGeneration.from_pretrained(folder)
    projector = model.model.multi_modal_projector
    with torch.inference_mode():
        soft = projector.mm_soft_emb_norm(torch.from_numpy(tokens)) @ projector.mm_input_projection_weight
        ids = torch.from_numpy(sequence.ids)[None]
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.from_numpy(sequence.types)[None],
            mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=soft)},
            max_new_tokens=length,
            do_sample=False,
        )
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("patches", [1, 5, 40])
def test_greedy_text_equals_generate(gemma: Path, writer: Writer, patches: int) -> None:
    sequence = writer.grammar.sequence(uniform([patches], 4), "Describe.")
    tokens = features(patches, 4)
    draft = writer.write(sequence, in_memory(tokens), 24)
    wanted = by_hugging_face(gemma, sequence, tokens, 24)
    assert draft.text == writer.tokenizer.decode(wanted, skip_special_tokens=True)


@pytest.mark.parametrize("patches", [1, 40])
def test_a_given_answer_is_as_likely_as_when_it_was_written(writer: Writer, patches: int) -> None:
    sequence = writer.grammar.sequence(uniform([patches], 4), "Describe.")
    tokens = in_memory(features(patches, 4))
    draft = writer.write(sequence, tokens, 12)
    logprobs = writer.logprobs(sequence, tokens, draft.ids)
    assert logprobs.shape == (12,)
    assert logprobs == pytest.approx(draft.logprobs, rel=1e-4, abs=1e-4)
    assert draft.logprob == pytest.approx(float(logprobs.sum()), rel=1e-4)


def test_the_images_are_seen(writer: Writer) -> None:
    sequence = writer.grammar.sequence(uniform([6], 4), "Describe.")
    texts = {writer.write(sequence, in_memory(features(6, 4, seed)), 12).text for seed in range(4)}
    assert len(texts) > 1


def test_attention_is_a_share_per_patch_and_word(writer: Writer) -> None:
    sequence = writer.grammar.sequence(uniform([3, 4], 4), "Describe.")
    draft = writer.write(sequence, in_memory(features(7, 4)), 9)
    assert draft.attention is not None
    assert draft.attention.shape == (9, 7)
    assert (draft.attention >= 0).all()
    assert (draft.attention.sum(1) <= 1 + 1e-5).all()
    assert draft.ends[-1] == len(draft.text)
    assert draft.truncated


def test_text_only_needs_no_features(writer: Writer) -> None:
    draft = writer.write(writer.grammar.text_only("Merge."), None, 5)
    assert draft.attention is None


def test_positions_that_are_scaled_in_another_way_are_not_stretched(gemma_with_positions: Path) -> None:
    config = Gemma3Config.from_pretrained(gemma_with_positions)
    text = config.text_config
    text.rope_parameters["full_attention"] |= {"rope_type": "yarn", "factor": 4.0}
    assert stretch(text, text.max_position_embeddings) == 1.0
    with pytest.raises(ModelError, match="scaled by 'yarn' already"):
        stretched(config, 2 * text.max_position_embeddings)


def test_only_positions_beyond_the_checkpoints_are_stretched(gemma_with_positions: Path) -> None:
    """At a stretch of 2 a global layer sees tokens twice as far apart as they were."""
    checkpoint = find_checkpoint(str(gemma_with_positions))
    positions = checkpoint.config["text_config"]["max_position_embeddings"]
    writer = Writer(checkpoint, "float32")
    sequence, answer = writer.grammar.text_only("Describe every region of it."), np.array([20, 30, 40])
    usual = writer.logprobs(sequence, None, answer)

    def asked(context: int) -> Writer:
        profile = writer.profile.model_copy(update={"asked_context": context})
        return Writer(checkpoint, "float32", profile)

    assert np.array_equal(asked(positions).logprobs(sequence, None, answer), usual)
    far = asked(2 * positions)
    assert not np.allclose(far.logprobs(sequence, None, answer), usual, atol=1e-5)
    hidden = torch.zeros(1)
    for kind, times in (("full_attention", 2), ("sliding_attention", 1)):
        (cosines, _), (wanted, _) = (
            model.model.model.language_model.rotary_emb(hidden, torch.arange(0, n, n // 10)[None], kind)
            for model, n in ((far, 20 * times), (writer, 20))
        )
        assert torch.allclose(cosines, wanted, atol=1e-5)


def test_weights_of_another_shape_are_refused(gemma: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gemma, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] += 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="odd"):
        Writer(find_checkpoint(str(folder)), "float32")


def test_native_sequences_are_those_of_gemmas_own_processor() -> None:
    """Ids and token types, with a byte-pair tokenizer that merges line breaks as Gemma's does."""
    from transformers import Gemma3Processor, GemmaTokenizer
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    from reporters.profiles.families import GEMMA_3
    from reporters.sequence import Grammar

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
               "<end_of_image>", "<image_soft_token>"]  # fmt: skip
    letters = [chr(c) for c in range(32, 127)] + ["\u2581", "\n", "\n\n", "\n\n\n", "\n\n\n\n"]
    tokenizer = GemmaTokenizer(
        vocab={t: i for i, t in enumerate([*special, *letters])},
        merges=[("\n", "\n"), ("\n\n", "\n"), ("\n\n", "\n\n"), ("\n\n\n", "\n")],
        extra_special_tokens={
            "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"
        },
    )  # fmt: skip
    tokenizer.add_tokens(["<start_of_turn>", "<end_of_turn>"], special_tokens=True)
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        image_seq_length=4,
    )
    images = [np.zeros((56, 56, 3), np.uint8)] * 3
    prompt = "<bos><start_of_turn>user\n" + "<start_of_image>" * 3 + "Describe.<end_of_turn>\n<start_of_turn>model\n"
    wanted = processor(text=prompt, images=images, return_tensors="np", add_special_tokens=False)
    profile = GEMMA_3.model_copy(update={"native_tokens": 4})
    ids = tokenizer.convert_tokens_to_ids
    grammar = Grammar(tokenizer, profile, ids(special[6]), ids(special[8]), ids(special[7]))
    made = grammar.sequence(uniform([3], 4), "Describe.")
    assert made.ids.tolist() == wanted["input_ids"][0].tolist()
    assert made.types.tolist() == wanted["token_type_ids"][0].tolist()
