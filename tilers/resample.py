"""Area-average resampling: each output pixel is the exact mean of the area it covers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from scipy.sparse import csr_array

Image = NDArray[np.uint8]


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
    rows = _weights(top, bottom, height, image.shape[0])
    columns = _weights(left, right, width, image.shape[1])
    tall = rows @ image.reshape(image.shape[0], -1).astype(np.float32)
    flat = tall.reshape(height, image.shape[1], 3).transpose(1, 0, 2).reshape(image.shape[1], -1)
    out = (columns @ flat).reshape(width, height, 3).transpose(1, 0, 2)
    return np.asarray(np.clip(np.rint(out), 0, 255), np.uint8)


@lru_cache(maxsize=64)
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
