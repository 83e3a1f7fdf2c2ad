"""Train ``onnx-digits.onnx``: a convolutional network of one layer, without gradient descent.

The filters are the principal components of 7x7 patches, the classifier on the pooled responses is
a ridge regression: two closed forms, so training takes seconds.  The features are computed by ONNX
Runtime in training too, so what is trained is what is served.

    cd examples && python -m digits.train_onnx        (needs the package onnx)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

from data import mnist_data
from digits import onnx_digits
from serving.deskew import deskew

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import NodeProto

    from serving.payloads import Images

    Matrix = NDArray[np.float32]

SIDE = 28
PATCH = 7
FILTERS = 24
POOL = 3
RIDGE = 3.0
BATCH = 500
OPSET = 17
IR_VERSION = 8
"""Of 2022: any ONNX Runtime since 1.12 reads it."""


def train() -> bytes:
    """Train on the digits as written and deskewed; return the serialised network."""
    digits = mnist_data.load("train")
    plain = digits.images.astype(np.float32)
    images = np.concatenate([plain, deskew(plain)])
    labels = np.concatenate([digits.labels, digits.labels])

    filters = patch_components(plain, np.random.default_rng(0))
    extract = onnx_digits.predictor(network(filters, None))
    batches = [extract(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    features = np.concatenate(batches)

    # Every fifth digit, with its deskewed copy, is held out to find the softmax's temperature.
    held_out = np.arange(len(images)) % len(plain) % 5 == 0
    weights, bias = ridge(features[~held_out], labels[~held_out])
    sharpness = temperature(features[held_out] @ weights + bias, labels[held_out])
    weights, bias = ridge(features, labels)
    return network(filters, (weights * sharpness, bias * sharpness))


def patch_components(images: Images, rng: np.random.Generator) -> Matrix:
    """Return the leading principal components of random patches, one filter per row."""
    windows = sliding_window_view(images.reshape(-1, SIDE, SIDE), (PATCH, PATCH), axis=(1, 2))
    drawn = [rng.integers(0, size, 20_000) for size in windows.shape[:3]]
    patches = windows[tuple(drawn)].reshape(-1, PATCH * PATCH)
    patches = patches[patches.std(axis=1) > 12]  # noqa: PLR2004 - background says nothing
    patches = patches - patches.mean(axis=1, keepdims=True)
    components: Matrix = np.linalg.svd(patches, full_matrices=False)[2][:FILTERS]
    return components


def ridge(features: Matrix, labels: NDArray[np.uint8]) -> tuple[Matrix, Matrix]:
    """Regress one-hot labels on the features; return weights and bias."""
    mean = features.mean(axis=0)
    centred = (features - mean).astype(np.float64)
    targets = np.eye(10)[labels] - 0.1
    gram = centred.T @ centred + RIDGE * np.eye(centred.shape[1])
    weights = np.linalg.solve(gram, centred.T @ targets).astype(np.float32)
    return weights, (0.1 - mean @ weights).astype(np.float32)


def temperature(scores: Matrix, labels: NDArray[np.uint8]) -> float:
    """Return the factor on the scores that makes the softmax fit the labels best."""

    def loss(factor: float) -> float:
        logits = factor * scores.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        truth = logits[np.arange(len(labels)), labels]
        return float((np.log(np.exp(logits).sum(axis=1)) - truth).mean())

    candidates: list[float] = np.geomspace(1, 100, 60).tolist()
    return min(candidates, key=loss)


def network(filters: Matrix, classifier: tuple[Matrix, Matrix] | None) -> bytes:
    """Serialise the feature extractor, with the classifier behind it unless that is None."""
    signed = np.concatenate([filters, -filters]).reshape(-1, 1, PATCH, PATCH) / np.float32(255)
    tensors: dict[str, NDArray[Any]] = {
        "shape": np.array([-1, 1, SIDE, SIDE], np.int64),
        "filters": signed,
    }
    chain: Sequence[NodeProto] = [
        helper.make_node("Reshape", ["images", "shape"], ["pictures"]),
        helper.make_node("Conv", ["pictures", "filters"], ["responses"]),
        helper.make_node("Relu", ["responses"], ["rectified"]),
        helper.make_node(
            "AveragePool", ["rectified"], ["pooled"], kernel_shape=[POOL] * 2, strides=[POOL] * 2
        ),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    if classifier is not None:
        tensors |= {"weights": classifier[0], "bias": classifier[1]}
        chain = [
            *chain,
            helper.make_node("Gemm", ["features", "weights", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ]
    graph = helper.make_graph(
        nodes=chain,
        name="onnx-digits",
        inputs=[helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", SIDE * SIDE])],
        outputs=[
            helper.make_tensor_value_info(chain[-1].output[0], TensorProto.FLOAT, ["n", None])
        ],
        initializer=[numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    content: bytes = model.SerializeToString()
    return content


def main() -> None:
    """Train and replace the committed file."""
    onnx_digits.FILE.write_bytes(train())


if __name__ == "__main__":
    main()
