"""The ONNX model: what is served is ``onnx-digits.onnx``, and ONNX Runtime gets one thread.

Needs ``onnxruntime`` and numpy; ``train_onnx.py`` says what the network is and makes the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from serving.payloads import Images

FILE = Path(__file__).with_name("onnx-digits.onnx")


def predictor(network: bytes) -> Callable[[Images], NDArray[np.float32]]:
    """Return a function that runs the network's only input to its only output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])

    def predict(images: Images) -> NDArray[np.float32]:
        (output,) = session.run(None, {"images": images})
        result: NDArray[np.float32] = output
        return result

    return predict


def load() -> Callable[[Images], NDArray[np.float32]]:
    """Open the committed network: (n, 784) images to (n, 10) probabilities."""
    return predictor(FILE.read_bytes())
