"""The checkpoint of a run: found and checked before any slide is opened, loaded when first needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from reporters.selection import Choose, at_random
from wsi_pipeline.cases import Part
from wsi_pipeline.errors import ModelError, UsageError
from wsi_pipeline.models import (
    Checkpoint,
    check_fits,
    check_room,
    check_tensors,
    find_checkpoint,
    pick_device,
    resolve_dtype,
)
from wsi_pipeline.models.checkpoint import SECOND_READER, second_reader_of
from wsi_pipeline.settings import ModelSettings, RunSettings

if TYPE_CHECKING:
    from reporters.confidence import Calibration
    from reporters.plan import PartPlan
    from reporters.profiles import Profile
    from reporters.second_reader import SecondReader
    from reporters.sequence import Grammar
    from reporters.writer import Writer
    from wsi_pipeline.encoders.encode import Encoder

NONE = "none"


class Model:
    """A checkpoint, or none, and what is loaded of it.

    Args:
        settings: which one.
        batch_size: of its encoder.
        download: whether a hub checkpoint may be fetched.

    Raises:
        ModelError: it cannot be had.
    """

    def __init__(self, settings: ModelSettings, batch_size: int | None = None, download: bool = True) -> None:
        self.settings, self._batch_size = settings, batch_size
        self._checked = False
        self.checkpoint: Checkpoint | None = None
        if settings.name != NONE:
            self.checkpoint = find_checkpoint(settings.name, settings.revision, download)

    @property
    def revision(self) -> str | None:
        """Its revision; None without a model."""
        return self.checkpoint.revision if self.checkpoint else None

    def check(self) -> None:
        """Refuse a checkpoint that cannot read patches or does not fit this machine.

        Raises:
            ModelError: why.
        """
        if self.checkpoint and not self._checked:
            assert self.profile
            check_fits(self.checkpoint, self.device, self.dtype)
            check_tensors(self.checkpoint)
            self._check_second_reader()
            self._checked = True

    def _check_second_reader(self) -> None:
        if self.checkpoint is None or self.second_reader is None:
            return
        wanted = int(self.checkpoint.config["vision_config"]["hidden_size"])
        if self.second_reader.dim != wanted:
            cause = f"reads tokens {self.second_reader.dim} wide, and the checkpoint's are {wanted}"
            raise ModelError(self.checkpoint.folder / SECOND_READER, cause, "delete it, or put this checkpoint's there")

    def adapt(self, settings: RunSettings) -> RunSettings:
        """The settings with `native_patches` resolved to the checkpoint's patch size.

        Raises:
            UsageError: there is no checkpoint to ask.
            ModelError: it cannot do what they ask, whatever the slides.
        """
        if self.profile is not None:
            from reporters.planning import check_asked

            check_asked(self.profile, settings.report)
            self._stretch()
        if not settings.native_patches:
            return settings
        if self.profile is None:
            raise UsageError("--native-patches", "needs a model", "give --model, or --patch-size PIXELS")
        tile = settings.tile.model_copy(update={"patch_size": self.profile.patch_size})
        return settings.model_copy(update={"tile": tile})

    @cached_property
    def device(self) -> str:
        """Where it runs."""
        return pick_device()

    @cached_property
    def dtype(self) -> str:
        """Its arithmetic on this device."""
        return resolve_dtype(self.settings.dtype, self.device)

    @cached_property
    def profile(self) -> Profile | None:
        """What it was trained on; None without a model."""
        if self.checkpoint is None:
            return None
        from reporters.profiles import find_profile

        profile = find_profile(self.checkpoint.name, self.checkpoint.folder, self.checkpoint.config)
        return profile.model_copy(update={"asked_context": self.settings.context_tokens})

    @cached_property
    def calibration(self) -> Calibration | None:
        """What turns its log-probabilities into confidence; None without."""
        from reporters.confidence import find_calibration

        return find_calibration(self.checkpoint.folder) if self.checkpoint else None

    @cached_property
    def second_reader(self) -> SecondReader | None:
        """What holds its answers against single patches; None without."""
        from reporters.second_reader import find_second_reader

        return find_second_reader(self.checkpoint.folder) if self.checkpoint else None

    @cached_property
    def second_reader_is(self) -> str | None:
        """Its fingerprint."""
        return second_reader_of(self.checkpoint.folder) if self.checkpoint else None

    @cached_property
    def grammar(self) -> Grammar:
        """Its sequence grammar; loads the tokenizer only."""
        from reporters.writer import make_grammar

        assert self.checkpoint
        assert self.profile
        return make_grammar(self.checkpoint, self.profile)

    def plan(
        self,
        part: Part,
        patches: Mapping[str, int],
        settings: RunSettings,
        left_out: Mapping[str, Collection[int]] = MappingProxyType({}),
        choose: Choose = at_random,
        novel: Choose = at_random,
        stands_out: Choose = at_random,
    ) -> PartPlan:
        """How this checkpoint would read a part whose slides hold so many patches; see `make_plan`.

        Raises:
            ModelError: it cannot, or this machine cannot, with the arithmetic.
        """
        from reporters.instructions import instruction_for
        from reporters.memory import memory_bytes
        from reporters.planning import make_plan

        assert self.profile
        assert self.checkpoint
        instruction = instruction_for(self.profile, part)
        tile = settings.tile
        plan = make_plan(
            patches,
            self.profile,
            self.grammar,
            instruction,
            settings.report,
            tile.patch_size,
            tile.mpp,
            left_out,
            choose,
            novel,
            stands_out,
        )
        tokens = plan.longest + settings.report.max_new_tokens
        if (times := self._stretch()) > 1:
            words = f"positions of global layers stretched {times:.2f} times for {self.profile.longest:,} tokens"
            plan = plan.model_copy(update={"deviations": (*plan.deviations, words)})
        memory = memory_bytes(self.text_config, tokens, self.dtype)
        check_room(self.checkpoint, self.device, self.dtype, tokens, memory, loaded="writer" in vars(self))
        return plan

    @cached_property
    def text_config(self) -> Any:
        """A `Gemma3TextConfig`."""
        from transformers import Gemma3TextConfig

        assert self.checkpoint
        return Gemma3TextConfig(**self.checkpoint.config["text_config"])

    def _stretch(self) -> float:
        from reporters.positions import stretch

        asked = self.settings.context_tokens
        return stretch(self.text_config, asked) if asked else 1.0

    @cached_property
    def encoder(self) -> Encoder:
        """Its vision tower, loaded."""
        from wsi_pipeline.encoders.encode import Encoder

        assert self.checkpoint
        return Encoder(self.checkpoint, self.dtype, self._batch_size)

    @cached_property
    def writer(self) -> Writer:
        """All of it, loaded."""
        from reporters.writer import Writer

        assert self.checkpoint
        return Writer(self.checkpoint, self.dtype, self.profile)
