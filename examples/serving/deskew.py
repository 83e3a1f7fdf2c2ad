"""Upright, centred digits: the preprocessing step, also used to widen the training data.

The slant of a digit is the regression of column on row, weighted by ink; shearing it away and
moving the centre of mass to the middle of the picture removes most of what differs between hands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 28
MIDDLE = (SIDE - 1) / 2


def deskew(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (n, 784) images upright and centred, on the same scale; blank ones stay blank."""
    pictures = images.reshape(-1, SIDE, SIDE)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)

    ink = np.maximum(pictures.sum(axis=(1, 2), keepdims=True), 1e-6)
    row_mean = (pictures * rows).sum(axis=(1, 2), keepdims=True) / ink
    column_mean = (pictures * columns).sum(axis=(1, 2), keepdims=True) / ink
    above = rows - row_mean
    variance = (pictures * above**2).sum(axis=(1, 2), keepdims=True) / ink
    covariance = (pictures * above * (columns - column_mean)).sum(axis=(1, 2), keepdims=True) / ink
    slant = covariance / np.maximum(variance, 1e-6)

    source_rows = rows - MIDDLE + row_mean
    source_columns = columns - MIDDLE + column_mean + slant * (rows - MIDDLE)
    upright: NDArray[np.float32] = _sample(pictures, source_rows, source_columns)
    return upright.reshape(len(images), SIDE * SIDE)


def _sample(
    pictures: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Read pictures at fractional positions, bilinear; outside is background."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)))
    picture = np.arange(len(pictures))[:, None, None]
    row, column = np.floor(rows), np.floor(columns)
    down, right = rows - row, columns - column

    def at(row_offset: int, column_offset: int) -> NDArray[np.float32]:
        r = np.clip(row + row_offset + 1, 0, SIDE + 1).astype(np.intp)
        c = np.clip(column + column_offset + 1, 0, SIDE + 1).astype(np.intp)
        values: NDArray[np.float32] = padded[picture, r, c]
        return values

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    sampled: NDArray[np.float32] = (upper * (1 - down) + lower * down).astype(np.float32)
    return sampled
