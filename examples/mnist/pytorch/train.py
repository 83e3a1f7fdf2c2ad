"""Train the PyTorch network at image build; writes ``model.pt`` and ``accuracy.json``.

The file is TorchScript, so serving needs no definition of the network.  It is trained on the
digits as written and deskewed, so that it serves alone and behind ``mnist-prep``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data import mnist_data
from serving.deskew import deskew

EPOCHS = 8
BATCH = 64
LEAST_ACCURACY = 0.96


class Network(nn.Module):
    """Two convolutions and two dense layers: (n, 784) grey values to ten probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(800, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits in training, probabilities in evaluation."""
        logits = self.layers(pixels.reshape(-1, 1, 28, 28) / 255)
        return logits if self.training else torch.softmax(logits, dim=1)


def fit(network: Network, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Train with one-cycle Adam on digits moved by up to one pixel."""
    optimiser = torch.optim.Adam(network.parameters())
    steps = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=3e-3, epochs=EPOCHS, steps_per_epoch=steps
    )
    network.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            down, right = torch.randint(-1, 2, (2,)).tolist()
            moved = images[chosen].reshape(-1, 28, 28).roll((down, right), (1, 2))
            loss = nn.functional.cross_entropy(network(moved), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def main() -> None:
    """Train, write the network, measure what was written, and write that beside it."""
    target = Path(sys.argv[1])
    torch.manual_seed(0)
    torch.set_num_threads(2)
    train, test = mnist_data.load("train"), mnist_data.load("test")

    started = time.monotonic()
    network = Network()
    written = train.images.astype(np.float32)
    fit(
        network,
        torch.from_numpy(np.concatenate([written, deskew(written)])),
        torch.from_numpy(np.tile(train.labels, 2).astype(np.int64)),
    )
    seconds = time.monotonic() - started

    network.eval()
    images = torch.from_numpy(test.images.astype(np.float32))
    with torch.inference_mode():
        torch.jit.trace(network, images[:2]).save(str(target / "model.pt"))
        served = torch.jit.load(str(target / "model.pt"))
        labels = served(images).argmax(dim=1).numpy()
    report = {
        "accuracy": float((labels == test.labels).mean()),
        "test_images": len(test.labels),
        "train_seconds": round(seconds, 1),
        "framework": f"torch {torch.__version__}",
    }
    (target / "accuracy.json").write_text(json.dumps(report) + "\n")
    print(report)
    if report["accuracy"] < LEAST_ACCURACY:
        sys.exit(f"accuracy below {LEAST_ACCURACY}: the image is not built")


if __name__ == "__main__":
    main()
