"""Serve the TensorFlow network: ``IMAGE serve``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from serving import contract

if TYPE_CHECKING:
    from serving.payloads import Images, Probabilities

HERE = Path(__file__).parent


def load() -> contract.Invoke:
    """Import TensorFlow and open the SavedModel, on one thread per pool."""
    import tensorflow as tf  # noqa: PLC0415 - takes seconds, and a ping is to be answered meanwhile

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = tf.saved_model.load(str(HERE / "model"))

    def predict(images: Images) -> Probabilities:
        probabilities: Probabilities = model.serve(tf.constant(images)).numpy()
        return probabilities

    predict(contract.blank_image())
    logging.getLogger("example").info("%s", (HERE / "accuracy.json").read_text().strip())
    return contract.classifier(predict)


if __name__ == "__main__":
    contract.serve("tensorflow-mnist", load)
