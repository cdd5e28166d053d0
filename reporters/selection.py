"""Choose some of many patches by what their features say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def farthest_points(features: NDArray[np.float32], count: int, first: int = 0) -> NDArray[np.intp]:
    """Indices of `count` rows that lie far apart: each next one is the farthest from all chosen so far.

    Gonzalez 1985, a 2-approximation of the k-centre problem.

    Args:
        features: (n, d); distances are Euclidean.
        count: at most n.
        first: the row to start from.
    """
    chosen = [first]
    nearest = np.linalg.norm(features - features[first], axis=1)
    while len(chosen) < min(count, len(features)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return np.array(chosen, np.intp)
