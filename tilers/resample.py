"""Area-average resampling: each output pixel is the exact mean of the area it covers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from scipy.sparse import csr_array

Image = NDArray[np.uint8]

_ROWS, _COLUMNS = 64, 8
"""Outputs that are averaged together: bands stay in the cache, and no product is so large that BLAS starts threads
beside ours. Sparse weights for rows and dense ones for columns take half the time of sparse ones and transposes."""


def area_average(image: Image, crop: tuple[float, float, float, float], size: tuple[int, int]) -> Image:
    """Average `crop` (left, top, right, bottom, may be fractional) of an (H, W, 3) image to (height, width).

    Whole-number factors on whole pixels take a short cut with the same result.
    """
    left, top, right, bottom = crop
    height, width = size
    fx, fy = (right - left) / width, (bottom - top) / height
    if fx == fy == int(fx) and left == int(left) and top == int(top):
        box = (int(left), int(top), int(right), int(bottom))
        if fx == 1:
            return np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]])
        return np.array(PilImage.fromarray(image).reduce(int(fx), box))
    lines = image.reshape(image.shape[0], -1)
    out = np.empty((height, width * 3), np.uint8)
    columns = _columns(left, right, width, image.shape[1])
    for rows in _bands(top, bottom, height, image.shape[0], _ROWS):
        tall = rows.weights @ lines[rows.first : rows.last].astype(np.float32)
        wide = np.empty((rows.stop - rows.start, width * 3), np.float32)
        for band, weights in columns:
            np.matmul(tall[:, 3 * band.first : 3 * band.last], weights, out=wide[:, 3 * band.start : 3 * band.stop])
        wide += np.float32(0.5)
        out[rows.start : rows.stop] = wide
    return out.reshape(height, width, 3)


@dataclass(frozen=True)
class _Band:
    """Outputs `start` to `stop`, the inputs `first` to `last` that they average, and with what weights."""

    start: int
    stop: int
    first: int
    last: int
    weights: csr_array


@lru_cache(maxsize=64)
def _bands(start: float, stop: float, count: int, length: int, size: int) -> list[_Band]:
    """`_weights`, cut into bands of `size` outputs."""
    weights = _weights(start, stop, count, length)
    bands = []
    for first in range(0, count, size):
        some = weights[first : first + size]
        low, high = int(some.indices.min()), int(some.indices.max()) + 1
        bands.append(_Band(first, first + some.shape[0], low, high, some[:, low:high].tocsr()))
    return bands


@lru_cache(maxsize=64)
def _columns(start: float, stop: float, count: int, length: int) -> list[tuple[_Band, NDArray[np.float32]]]:
    """The same for columns of interleaved RGB, as dense (inputs · 3, outputs · 3) matrices."""
    colours = np.eye(3, dtype=np.float32)
    return [
        (band, np.ascontiguousarray(np.kron(band.weights.toarray().T, colours)))
        for band in _bands(start, stop, count, length, _COLUMNS)
    ]


def _weights(start: float, stop: float, count: int, length: int) -> csr_array:
    """(count, length) matrix whose row i averages the i-th of `count` equal stretches of [start, stop)."""
    edges = start + (stop - start) * np.arange(count + 1) / count
    first, last = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    row, column, weight = [], [], []
    for k in range(int((last - first).max())):
        cell = np.minimum(first + k, length - 1)
        overlap = np.minimum(edges[1:], first + k + 1) - np.maximum(edges[:-1], first + k)
        used = overlap > 0
        row.append(np.flatnonzero(used))
        column.append(cell[used])
        weight.append(overlap[used] / (edges[1:] - edges[:-1])[used])
    data = np.concatenate(weight).astype(np.float32)
    return csr_array((data, (np.concatenate(row), np.concatenate(column))), shape=(count, length))
