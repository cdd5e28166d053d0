"""Fit a calibration to answers that are known to be right or wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from reporters.confidence import Calibration, Circumstances, Signs

_FEWEST = 50
_RIDGE = 1.0
"""Of weights per standard deviation: what a few dozen wrong answers do not say is not believed."""


def fit_calibration(
    signs: Sequence[Signs],
    exact: Sequence[bool],
    *,
    made_for: Circumstances,
    tokens_per_patch: Sequence[int],
    most_slides: int,
    threshold: float = 0.5,
) -> Calibration:
    """Logistic regression with Platt's smoothed targets (1999), so that answers that are all right end in no certainty.

    Args:
        signs: of the answers, as reports tell them.
        exact: whether each was right.
        made_for, tokens_per_patch, most_slides: what it will hold for.
        threshold: the chance below which the checkpoint is to abstain; at one half it is more often wrong than right.

    Raises:
        ValueError: fewer than 50 answers, or some with samples or a second reader and some without.
    """
    if len(signs) < _FEWEST:
        raise ValueError(f"{len(signs)} answers are too few for a calibration; it takes {_FEWEST}")
    if any((one.agreement is None) != (made_for.samples == 0) for one in signs):
        raise ValueError(f"the calibration is for {made_for.samples} samples, and not all answers were drawn with them")
    if any((one.backing is None) != (made_for.second_reader is None) for one in signs):
        raise ValueError("not all answers were held against the second reader that the calibration is for")
    values = np.array([one.values(made_for.samples) for one in signs])
    spread = values.std(0)
    spread[spread == 0] = 1.0
    x, y = (values - values.mean(0)) / spread, np.asarray(exact, bool)
    right, wrong = int(y.sum()), int((~y).sum())
    target = np.where(y, (right + 1) / (right + 2), 1 / (wrong + 2))

    def loss(w: np.ndarray) -> float:
        z = w[0] + x @ w[1:]
        return float(np.sum(np.logaddexp(0, z) - target * z) + _RIDGE / 2 * (w[1:] ** 2).sum())

    def slope(w: np.ndarray) -> np.ndarray:
        off = expit(w[0] + x @ w[1:]) - target
        return np.array([off.sum(), *(off @ x + _RIDGE * w[1:])])

    # a sign counts in its own direction, or not at all: doubt makes no answer surer, nor agreement or backing less sure
    bounds = ((None, None), (None, 0), (0, None), (None, None), (0, None), (None, None))[: 1 + x.shape[1]]
    intercept, *scaled = minimize(loss, np.zeros(1 + x.shape[1]), jac=slope, method="L-BFGS-B", bounds=bounds).x
    weights = np.array(scaled) / spread
    return Calibration(
        made_for=made_for,
        tokens_per_patch=tuple(sorted(set(tokens_per_patch))),
        most_slides=most_slides,
        parts=len(x),
        intercept=round(float(intercept - weights @ values.mean(0)), 6),
        weights=tuple(round(float(w), 6) for w in weights),
        threshold=threshold,
    )
