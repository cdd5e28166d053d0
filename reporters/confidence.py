"""How sure: the log-probability of an answer, turned into a chance of being exact by a calibration made for it."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from reporters.plan import PartPlan
from reporters.schema import Confidence
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import CALIBRATION

PHANTOM_DOMAIN = "phantom"


class Calibration(BaseModel):
    """Chance that a part's diagnosis is exact, as a logistic function of its answer's log-probability (Platt 1999).

    It holds for what it was fitted on and nothing else: revision, arithmetic, plan, tokens per patch and domain must be
    the same, and the part no larger.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str
    plan: str
    tokens_per_patch: tuple[int, ...]
    domain: str
    """Where the slides came from: `phantom`, or what a laboratory calls its own (`--domain`)."""
    dtype: str = "float32"
    """Arithmetic of encoder and writer."""
    deviations: tuple[str, ...] = ()
    """What its plans did otherwise than the checkpoint was made for."""
    samples: int = 0
    """Drawn beside each answer."""
    most_slides: int
    """Of the parts it was fitted on: longer answers are less likely, right or wrong."""
    parts: int
    """It was fitted on so many."""
    intercept: float
    slope: float
    threshold: float
    """Below this chance the checkpoint abstains."""

    def chance(self, logprob: float) -> float:
        """Of being exact."""
        odds = self.intercept + self.slope * logprob
        # either way round the exponential stays below 1
        return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))

    def judge(
        self, logprob: float, revision: str, dtype: str, plan: PartPlan, slides: int, domain: str
    ) -> Confidence | None:
        """Confidence in an answer about so many slides; None where this calibration was made for something else."""
        made_for = (self.revision, self.dtype, self.plan, self.deviations, self.domain)
        known = made_for == (revision, dtype, plan.strategy, plan.deviations, domain)
        known &= plan.tokens_per_patch in self.tokens_per_patch and slides <= self.most_slides
        if not known or not math.isfinite(logprob):
            return None
        chance = round(self.chance(logprob), 3)
        return Confidence(
            chance=chance, threshold=self.threshold, abstained=chance < self.threshold, domain=domain, parts=self.parts
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
        raise ModelError(file, cause, "make it again, or delete it: confidence is then not shown") from None
