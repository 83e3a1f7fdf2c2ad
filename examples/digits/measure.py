"""Measure the two models of this folder on the 1,000 test digits, without HTTP.

cd examples && python -m digits.measure
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data import mnist_data
from digits import onnx_digits, sklearn_digits
from serving.deskew import deskew

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.payloads import Images, Probabilities


def accuracy(predict: Callable[[Images], Probabilities]) -> dict[str, float]:
    """Return the share of test digits recognised, as written and after the prep step."""
    digits = mnist_data.load("test")
    written = digits.images.astype(np.float32)
    cases = {"as_written": written, "after_prep": deskew(written)}
    return {
        case: float((predict(images).argmax(axis=1) == digits.labels).mean())
        for case, images in cases.items()
    }


def main() -> None:
    """Train the scikit-learn model anew, measure both, and print the result as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        predict = sklearn_digits.load(Path(folder))
        seconds = round(time.monotonic() - started, 1)
    report = {
        "sklearn-digits": {"train_seconds": seconds, **accuracy(predict)},
        "onnx-digits": {"bytes": onnx_digits.FILE.stat().st_size, **accuracy(onnx_digits.load())},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
