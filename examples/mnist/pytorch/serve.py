"""Serve the PyTorch network: ``IMAGE serve``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from serving import contract

if TYPE_CHECKING:
    from serving.payloads import Images, Probabilities

HERE = Path(__file__).parent


def load() -> contract.Invoke:
    """Import torch and open the network, on one thread."""
    import torch  # noqa: PLC0415 - takes seconds, and a ping is to be answered meanwhile

    torch.set_num_threads(1)
    network = torch.jit.load(str(HERE / "model.pt")).eval()

    def predict(images: Images) -> Probabilities:
        with torch.inference_mode():
            probabilities: Probabilities = network(torch.from_numpy(images)).numpy()
        return probabilities

    predict(contract.blank_image())
    logging.getLogger("example").info("%s", (HERE / "accuracy.json").read_text().strip())
    return contract.classifier(predict)


if __name__ == "__main__":
    contract.serve("pytorch-mnist", load)
