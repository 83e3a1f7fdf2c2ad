"""Train the TensorFlow network at image build; writes ``model/`` and ``accuracy.json``.

The folder is a SavedModel, so serving needs no Keras.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from data import mnist_data

EPOCHS = 12
BATCH = 64
LEAST_ACCURACY = 0.96


def classifier() -> keras.Model:
    """Two convolutions and two dense layers: (n, 784) grey values to ten probabilities."""
    return keras.Sequential(
        [
            layers.Input((784,)),
            layers.Rescaling(1 / 255),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def on_moved_digits(network: keras.Model) -> keras.Model:
    """Put random moves by up to one pixel before the network.

    They stay outside of it: an exported random layer goes on moving digits when serving.
    """
    pixels = layers.Input((784,))
    picture = layers.Reshape((28, 28, 1))(pixels)
    moved = layers.RandomTranslation(0.04, 0.04, fill_mode="constant", fill_value=0.0)(picture)
    return keras.Model(pixels, network(layers.Reshape((784,))(moved)))


def main() -> None:
    """Train, write the network, measure what was written, and write that beside it."""
    target = Path(sys.argv[1])
    keras.utils.set_random_seed(0)
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    train, test = mnist_data.load("train"), mnist_data.load("test")

    started = time.monotonic()
    network = classifier()
    trainer = on_moved_digits(network)
    steps = EPOCHS * -(-len(train.images) // BATCH)
    trainer.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        loss="sparse_categorical_crossentropy",
    )
    images = train.images.astype(np.float32)
    trainer.fit(images, train.labels, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    seconds = time.monotonic() - started

    network.export(str(target / "model"), verbose=False)
    served = tf.saved_model.load(str(target / "model"))
    probabilities = served.serve(tf.constant(test.images.astype(np.float32))).numpy()
    report = {
        "accuracy": float((probabilities.argmax(axis=1) == test.labels).mean()),
        "test_images": len(test.labels),
        "train_seconds": round(seconds, 1),
        "framework": f"tensorflow {tf.__version__}",
    }
    (target / "accuracy.json").write_text(json.dumps(report) + "\n")
    print(report)
    if report["accuracy"] < LEAST_ACCURACY:
        sys.exit(f"accuracy below {LEAST_ACCURACY}: the image is not built")


if __name__ == "__main__":
    main()
