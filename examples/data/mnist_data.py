"""Read the committed MNIST subset: which file holds what, and what a valid IDX file is.

``read_idx`` needs the standard library alone; ``load`` gives numpy arrays.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HERE = Path(__file__).parent
IDX_UINT8 = 0x08


@dataclass(frozen=True)
class Idx:
    """The content of one IDX file of unsigned bytes, row-major."""

    shape: tuple[int, ...]
    values: bytes


@dataclass(frozen=True)
class Digits:
    """Images as (n, 784) bytes, 0 is background, and their n labels 0 to 9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_idx(path: Path) -> Idx:
    """Read a gzipped IDX file; a wrong type or length is a ValueError."""
    with gzip.open(path) as file:
        content = file.read()
    zero, kind, rank = struct.unpack_from(">HBB", content)
    if zero != 0 or kind != IDX_UINT8:
        message = f"{path}: not an IDX file of unsigned bytes"
        raise ValueError(message)
    shape = struct.unpack_from(f">{rank}I", content, 4)
    values = content[4 + 4 * rank :]
    expected = 1
    for length in shape:
        expected *= length
    if len(values) != expected:
        message = f"{path}: {len(values)} values where the header promises {expected}"
        raise ValueError(message)
    return Idx(shape=shape, values=values)


def load(part: Literal["train", "test"], folder: Path = HERE) -> Digits:
    """Load the 4,000 training or the 1,000 test digits."""
    import numpy as np  # noqa: PLC0415 - read_idx stays usable without numpy

    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return Digits(
        images=np.frombuffer(images.values, np.uint8).reshape(images.shape[0], -1),
        labels=np.frombuffer(labels.values, np.uint8),
    )
