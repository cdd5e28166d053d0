"""A checkpoint loaded to write: a sequence and the tokens of its patches in, text and attention out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reporters.outline import Outline
from reporters.positions import stretched
from reporters.profiles import Profile, find_profile
from reporters.sequence import Grammar, ReadTokens, Sequence
from wsi_pipeline.errors import ModelError
from wsi_pipeline.events import emit
from wsi_pipeline.models import Checkpoint, pick_device

if TYPE_CHECKING:
    from reporters.memory import Memory


@dataclass(frozen=True)
class Draft:
    """What a checkpoint wrote.

    Attributes:
        text: as decoded, special tokens removed.
        ids: (n,) generated tokens, without the one that ends an answer.
        ends: (n,) characters of `text` that stand after each generated token.
        logprobs: (n,) logarithm of the probability of each generated token.
        attention: (n, patches) share of the global layers' attention that each token paid to each patch when
            it was chosen, heads and layers averaged; None when the checkpoint has no global layer.
        truncated: the longest allowed text was reached before its end.
        samples: other answers, drawn at random as likely as the checkpoint holds them to be.
    """

    text: str
    ids: NDArray[np.int64]
    ends: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    truncated: bool
    samples: tuple[str, ...] = ()

    @property
    def logprob(self) -> float:
        """Of the whole text."""
        return float(self.logprobs.sum())

    def words(self, start: int, stop: int) -> NDArray[np.bool_]:
        """(n,) which generated tokens write any of `text[start:stop]`."""
        starts = np.concatenate([[0], self.ends[:-1]])
        return np.asarray((self.ends > start) & (starts < stop))


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's tokenizer.

    Raises:
        ModelError: it has none that loads.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(checkpoint.folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {checkpoint.name!r}",
            f"its tokenizer does not load ({error})",
            "download the checkpoint again",
        ) from None


def make_grammar(checkpoint: Checkpoint, profile: Profile) -> Grammar:
    """The checkpoint's grammar; loads its tokenizer, not its weights."""
    config = checkpoint.config
    soft = config["image_token_index"] if "image_token_index" in config else config["image_token_id"]
    return Grammar(load_tokenizer(checkpoint), profile, config["boi_token_index"], int(soft), config["eoi_token_index"])


class Writer:
    """A loaded checkpoint.

    Args:
        checkpoint: a Gemma 3 with vision.
        dtype: torch dtype name of its weights.
        profile: how to speak to it; None for the checkpoint's own.

    Raises:
        ModelError: tensors are missing, left over or of the wrong shape.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str, profile: Profile | None = None) -> None:
        from transformers import Gemma3Config, Gemma3ForConditionalGeneration
        from transformers.utils import logging

        logging.disable_progress_bar()  # progress is told by events
        self.device = pick_device()
        self.profile = profile or find_profile(checkpoint.name, checkpoint.folder, checkpoint.config)
        self.grammar = make_grammar(checkpoint, self.profile)
        self.tokenizer = self.grammar.tokenizer
        try:
            self.model, loaded = Gemma3ForConditionalGeneration.from_pretrained(
                checkpoint.folder,
                config=stretched(Gemma3Config.from_pretrained(checkpoint.folder), self.profile.asked_context or 0),
                dtype=getattr(torch, dtype),
                attn_implementation="sdpa",
                output_loading_info=True,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"model {checkpoint.name!r}",
                f"does not load ({str(error)[:200]})",
                "download or save it again",
            ) from None
        wrong = {kind: sorted(names) for kind, names in loaded.items() if names}
        if wrong:
            raise ModelError(f"model {checkpoint.name!r}", f"its tensors do not fit: {wrong}"[:300], "save it again")
        self.model = self.model.to(self.device).eval()
        kinds = self.model.config.text_config.layer_types
        self._global = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
        self._ends = set(np.atleast_1d(self.model.generation_config.eos_token_id or []).tolist())
        self._ends.add(self.tokenizer.convert_tokens_to_ids(self.profile.end))

    @torch.inference_mode()
    def write(
        self, sequence: Sequence, tokens: ReadTokens | None, max_new_tokens: int, samples: int = 0, seed: int = 0
    ) -> Draft:
        """Read `sequence` with the tokens of its patches and write greedily.

        The prompt is read in chunks; from its last token on, the explicit kind of attention runs, which tells where
        each word looked. An answer in lines has one for every slide of the sequence (`reporters.outline`).

        Args:
            sequence: token ids.
            tokens: of its patches; None for text only.
            max_new_tokens: longest answer.
            samples: how many other answers to draw from the model's own probabilities; the input is read once.
            seed: of these draws.
        """
        from reporters.attention import LOOKING
        from reporters.memory import Memory
        from reporters.prefill import prefill

        memory = Memory(self.model.config.text_config, len(sequence.ids) + max_new_tokens)
        started = time.monotonic()
        prefill(self.model, sequence.but_last(), tokens, memory)
        if self.device == "cuda":
            torch.cuda.synchronize()
        seconds, held = time.monotonic() - started, memory.stored() / 2**20
        emit("write.prefilled", tokens=len(sequence.ids), seconds=round(seconds, 3), memory_mib=round(held, 1))
        read = memory.mark() if samples else []
        soft = torch.from_numpy(sequence.soft).to(self.device)
        look = partial(self._attention, soft=soft, grids=sequence.grids) if len(sequence.grids) else None
        self.model.set_attn_implementation({"text_config": LOOKING})
        answer = self._answer(sequence, memory, max_new_tokens, _likeliest, look if self._global else None)
        random, drawn = torch.Generator().manual_seed(seed), []
        for _ in range(samples):
            memory.rewind(read)
            other = self._answer(sequence, memory, max_new_tokens, partial(_by_chance, random=random))
            drawn.append(self._text(other.ids))
        return Draft(
            text=self._text(answer.ids),
            ids=np.array(answer.ids, np.int64),
            ends=np.array([len(self._text(answer.ids[: k + 1])) for k in range(len(answer.ids))]),
            logprobs=np.array(answer.logprobs, np.float32),
            attention=np.stack(answer.rows) if answer.rows else None,
            truncated=answer.truncated,
            samples=tuple(drawn),
        )

    def _answer(
        self, sequence: Sequence, memory: Memory, most: int, choose: _Choose, look: _Look | None = None
    ) -> _Answer:
        """Word by word behind a sequence that is in memory but for its last token."""
        token = int(sequence.ids[-1])
        outline = Outline(self.tokenizer, self._ends, sequence.numbers if self.profile.answer == "lines" else ())
        ids: list[int] = []
        logprobs: list[float] = []
        rows: list[NDArray[np.float32]] = []
        for _ in range(most):
            given = torch.tensor([[token]], device=self.device)
            step = self.model(input_ids=given, past_key_values=memory, use_cache=True, output_attentions=bool(look))
            memory.commit()
            likely = step.logits[0, -1].float().log_softmax(-1)
            token = choose(outline.ruled(likely))
            outline.written(token)
            if token in self._ends:
                return _Answer(ids, logprobs, rows, truncated=False)
            ids.append(token)
            logprobs.append(float(likely[token]))
            if look:
                rows.append(look(step.attentions))
        return _Answer(ids, logprobs, rows, truncated=True)

    @torch.inference_mode()
    def logprobs(self, sequence: Sequence, tokens: ReadTokens | None, answer: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n,) logarithm of the probability of each token of a given answer, such as `Draft.ids`."""
        from reporters.memory import Memory
        from reporters.prefill import prefill

        memory = Memory(self.model.config.text_config, len(sequence.ids) + len(answer))
        prefill(self.model, sequence.but_last(), tokens, memory)
        given = np.concatenate([sequence.ids[-1:], answer[:-1]])[None]
        step = self.model(input_ids=torch.from_numpy(given).to(self.device), past_key_values=memory, use_cache=True)
        likely = step.logits[0].float().log_softmax(-1)
        wanted = torch.from_numpy(answer).to(self.device)[:, None]
        return np.asarray(likely.gather(1, wanted)[:, 0].cpu().numpy())

    def _attention(self, layers: Any, soft: Tensor, grids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Per patch; `soft` are places of its tokens, `grids` how many each has."""
        rows = torch.stack([layers[i][0, :, -1, :].float().mean(0) for i in self._global]).mean(0)
        return np.asarray(np.add.reduceat(rows[soft].cpu().numpy(), grids.cumsum() - grids), np.float32)

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


@dataclass(frozen=True)
class _Answer:
    """Tokens without the one that ends them, how likely each was, and where each looked."""

    ids: list[int]
    logprobs: list[float]
    rows: list[NDArray[np.float32]]
    truncated: bool


_Choose = Callable[[Tensor], int]
"""A token, by the log-probabilities of all."""
_Look = Callable[[Any], NDArray[np.float32]]
"""From the attention of all layers to that on each patch."""


def _likeliest(likely: Tensor) -> int:
    return int(likely.argmax())


def _by_chance(likely: Tensor, random: torch.Generator) -> int:
    # on the CPU, whose generator draws the same everywhere
    return int(torch.multinomial(likely.exp().cpu(), 1, generator=random))
