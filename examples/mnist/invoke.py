"""Send test digits to each container of an endpoint with boto3; print accuracy and latency.

    python invoke.py --endpoint-url URL
    python invoke.py --endpoint-url URL --endpoint-name mnist-pipeline --pipeline

One request per digit, one after the other on one connection, so the latency is that of a client
that waits.  The first request to each container is not counted.  Requests are signed if boto3
finds credentials, else sent unsigned: the endpoint itself asks for no signature.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder examples/

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from data import mnist_data

CONTAINERS = ("pytorch-mnist", "tensorflow-mnist")


@dataclass(frozen=True)
class Result:
    """What one container made of the digits."""

    container: str
    right: int
    seconds: list[float]

    def row(self) -> str:
        """Return the container's line of the table."""
        hundredths = statistics.quantiles(self.seconds, n=100, method="inclusive")
        milliseconds = [1000 * hundredths[percent - 1] for percent in (50, 90, 99)]
        cells = "".join(f"{value:9.1f}" for value in milliseconds)
        accuracy = self.right / len(self.seconds)
        return f"{self.container:24}{len(self.seconds):7}{accuracy:10.1%}{cells}"


def classify(runtime: Any, target: dict[str, str], image: list[int]) -> int:
    """Send one digit and return the label that comes back."""
    response = runtime.invoke_endpoint(
        ContentType="application/json",
        Accept="application/json",
        Body=json.dumps({"instances": [image]}),
        **target,
    )
    label: int = json.loads(response["Body"].read())["predictions"][0]["label"]
    return label


def measure(runtime: Any, target: dict[str, str], digits: mnist_data.Digits, count: int) -> Result:
    """Send the first ``count`` digits to one container, or through a pipeline."""
    images = digits.images[:count].tolist()
    classify(runtime, target, images[0])
    seconds: list[float] = []
    right = 0
    for image, label in zip(images, digits.labels.tolist(), strict=False):
        started = time.perf_counter()
        answer = classify(runtime, target, image)
        seconds.append(time.perf_counter() - started)
        right += answer == label
    name = target.get("TargetContainerHostname", target["EndpointName"])
    return Result(container=name, right=right, seconds=seconds)


def main() -> None:
    """Read the command line, measure each container, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoint-url", required=True)
    parser.add_argument("--endpoint-name", default="mnist")
    parser.add_argument("--container", action="append", help=f"default: {', '.join(CONTAINERS)}")
    parser.add_argument("--pipeline", action="store_true", help="a Serial endpoint: no container")
    parser.add_argument("--count", type=int, default=200, help="digits per container, 2 to 1000")
    parser.add_argument("--region", default="us-east-1")
    arguments = parser.parse_args()

    signed = boto3.Session().get_credentials() is not None
    runtime = boto3.client(
        "sagemaker-runtime",
        endpoint_url=arguments.endpoint_url,
        region_name=arguments.region,
        config=None if signed else Config(signature_version=UNSIGNED),
    )
    endpoint = {"EndpointName": arguments.endpoint_name}
    targets = (
        [endpoint]
        if arguments.pipeline
        else [
            endpoint | {"TargetContainerHostname": name}
            for name in arguments.container or CONTAINERS
        ]
    )
    digits = mnist_data.load("test")
    print(f"{'container':24}{'digits':>7}{'accuracy':>10}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}")
    for target in targets:
        print(measure(runtime, target, digits, arguments.count).row(), flush=True)


if __name__ == "__main__":
    main()
