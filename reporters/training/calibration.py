"""Fit a calibration to answers that are known to be right or wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from reporters.confidence import Calibration

_FEWEST = 50


def fit_calibration(
    logprobs: Sequence[float],
    exact: Sequence[bool],
    *,
    revision: str,
    dtype: str = "float32",
    plan: str,
    tokens_per_patch: Sequence[int],
    most_slides: int,
    domain: str,
    deviations: Sequence[str] = (),
    threshold: float = 0.5,
) -> Calibration:
    """Platt's logistic fit (1999), with his smoothed targets, so that parts that are all right do not end in certainty.

    Args:
        logprobs: of the answers, as reports tell them.
        exact: whether each was right.
        revision, dtype, plan, tokens_per_patch, most_slides, domain, deviations: what it will hold for.
        threshold: the chance below which the checkpoint is to abstain; at one half it is more often wrong than right.

    Raises:
        ValueError: fewer than 50 answers.
    """
    if len(logprobs) < _FEWEST:
        raise ValueError(f"{len(logprobs)} answers are too few for a calibration; it takes {_FEWEST}")
    x, y = np.asarray(logprobs, float), np.asarray(exact, bool)
    right, wrong = int(y.sum()), int((~y).sum())
    target = np.where(y, (right + 1) / (right + 2), 1 / (wrong + 2))

    def loss(ab: np.ndarray) -> float:
        z = ab[0] + ab[1] * x
        return float(np.sum(np.logaddexp(0, z) - target * z))

    def slope(ab: np.ndarray) -> np.ndarray:
        off = expit(ab[0] + ab[1] * x) - target
        return np.array([off.sum(), (off * x).sum()])

    intercept, gradient = minimize(loss, np.array([0.0, 1.0]), jac=slope, method="BFGS").x
    return Calibration(
        revision=revision,
        dtype=dtype,
        plan=plan,
        tokens_per_patch=tuple(sorted(set(tokens_per_patch))),
        domain=domain,
        deviations=tuple(deviations),
        most_slides=most_slides,
        parts=len(x),
        intercept=round(float(intercept), 6),
        slope=round(float(gradient), 6),
        threshold=threshold,
    )
