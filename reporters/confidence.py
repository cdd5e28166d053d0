"""How sure: what an answer tells of its own worth, turned into a chance of being exact by a calibration made for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from reporters.schema import Confidence
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import CALIBRATION

PHANTOM_DOMAIN = "phantom"


@dataclass(frozen=True)
class Signs:
    """What an answer tells of its own worth.

    Attributes:
        logprob: of what is found on the slides (`reporters.likelihood`).
        agreement: share of samples that conclude the same; None without any.
        points: it names slides that show what it says; a diagnosis that nothing is found names none.
        backing: of its lines by patches one by one (`reporters.second_reader`); None without a second reader.
        slides: that the part has; the least borne out of many lines is borne out less.
    """

    logprob: float
    agreement: float | None
    points: bool
    backing: float | None = None
    slides: int = 1

    def values(self, samples: int) -> tuple[float, ...]:
        """As a calibration weighs them: doubt and agreement of so many samples on scales of logarithms; with a second
        reader its backing and the logarithm of the slides behind them."""
        agreeing = 1.0 if self.agreement is None else (self.agreement * samples + 0.5) / (samples + 0.5)
        own = math.log(_LEAST_DOUBT - self.logprob), math.log(agreeing), float(self.points)
        return own if self.backing is None else (*own, self.backing, math.log(self.slides))


SIGNS = 2
"""Raised whenever signs mean something else; the first ones counted every word of an answer."""
_OWN_SIGNS, _SECOND_SIGNS = 3, 2
"""Values of `Signs` that an answer has by itself, and more that a second reader gives it."""
_LEAST_DOUBT = 1e-4
"""Log-probabilities nearer to nothing than this are rounding."""


class Circumstances(BaseModel):
    """What a calibration holds for; all of it must be the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str
    signs: int = 1
    """Their meaning, `SIGNS`."""
    dtype: str
    """Arithmetic of encoder and writer."""
    tiling: int
    """Algorithm that the patches come from."""
    plan: str
    deviations: tuple[str, ...] = ()
    """What its plans did otherwise than the checkpoint was made for."""
    samples: int
    """Drawn beside each answer."""
    second_reader: str | None = None
    """Fingerprint of the one whose backing counts; None without."""
    domain: str
    """Where the slides came from: `phantom`, or what a laboratory calls its own (`--domain`)."""


class Calibration(BaseModel):
    """Chance that a part's diagnosis is exact, as a logistic function of the signs of its answer (after Platt 1999).

    It holds for the circumstances it was fitted in, on parts that are no larger, and for nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_for: Circumstances
    tokens_per_patch: tuple[int, ...]
    most_slides: int
    """Of the parts it was fitted on: longer answers are less likely, right or wrong."""
    parts: int
    """It was fitted on so many."""
    intercept: float
    weights: tuple[float, ...]
    """Of `Signs.values`."""
    threshold: float
    """Below this chance the checkpoint abstains."""

    @model_validator(mode="after")
    def _weighs_every_sign(self) -> Calibration:
        signs = _OWN_SIGNS if self.made_for.second_reader is None else _OWN_SIGNS + _SECOND_SIGNS
        if len(self.weights) != signs:
            raise ValueError(f"has {len(self.weights)} weights for {signs} signs")
        return self

    def chance(self, signs: Signs) -> float:
        """Of being exact."""
        values = signs.values(self.made_for.samples)
        odds = self.intercept + sum(w * v for w, v in zip(self.weights, values, strict=True))
        # either way round the exponential stays below 1
        return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))

    def holds(self, now: Circumstances, tokens_per_patch: int, slides: int) -> bool:
        """Whether it was made for an answer about so many slides."""
        return now == self.made_for and tokens_per_patch in self.tokens_per_patch and slides <= self.most_slides

    def judge(self, signs: Signs, now: Circumstances, tokens_per_patch: int, slides: int) -> Confidence | None:
        """Confidence in such an answer; None where this calibration was made for something else."""
        known = self.holds(now, tokens_per_patch, slides) and (signs.agreement is None) == (now.samples == 0)
        known = known and (signs.backing is None) == (now.second_reader is None)
        if not known or not math.isfinite(signs.logprob) or not math.isfinite(signs.backing or 0.0):
            return None
        chance = round(self.chance(signs), 3)
        return Confidence(
            chance=chance,
            threshold=self.threshold,
            abstained=chance < self.threshold,
            domain=now.domain,
            parts=self.parts,
        )


def find_calibration(folder: Path) -> Calibration | None:
    """The one that lies beside a checkpoint.

    Raises:
        ModelError: the file is none.
    """
    file = folder / CALIBRATION
    if not file.is_file():
        return None
    try:
        return Calibration.model_validate_json(file.read_text())
    except ValidationError as error:
        cause = f"is no valid calibration ({error.error_count()} errors)"
        raise ModelError(file, cause, "delete it: confidence is then not shown; then make it again") from None
