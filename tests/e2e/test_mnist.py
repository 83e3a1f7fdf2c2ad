"""The two containers of SageMaker's example, on real digits: the models' own accuracy through the whole path."""

import gzip
import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from support import cluster
from support.cluster import Namespace
from support.http import TARGET

pytestmark = pytest.mark.e2e

EXAMPLES = cluster.ROOT / "examples"
CONTAINERS = ("pytorch-mnist", "tensorflow-mnist")
COUNT = 500


def digits() -> list[tuple[list[int], int]]:
    """Test images (784 grey values) with their labels, from the IDX files of the example."""

    def payload(name: str, skip: int) -> bytes:
        return gzip.decompress((EXAMPLES / "data" / name).read_bytes())[skip:]

    pixels = payload("test-images-idx3-ubyte.gz", 16)
    labels = payload("test-labels-idx1-ubyte.gz", 8)
    return [(list(pixels[at * 784 : (at + 1) * 784]), labels[at]) for at in range(COUNT)]


def accuracy(port: int, container: str, test: list[tuple[list[int], int]]) -> float:
    """Share of digits that `container` names rightly, one request each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    right = 0
    for image, label in test:
        body = json.dumps({"instances": [image]})
        connection.request("POST", "/invocations", body, {TARGET: container, "Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        right += json.loads(answer)["predictions"][0]["label"] == label
    connection.close()
    return right / len(test)


def test_both_models_keep_their_accuracy_behind_one_endpoint(namespace: Namespace, figures: list[str]) -> None:
    began = time.monotonic()
    namespace.apply(*yaml.safe_load_all((EXAMPLES / "mnist" / "endpoint.yaml").read_text()))
    namespace.wait_in_service("mnist", 300)
    figures.append(f"mnist endpoint in service {time.monotonic() - began:.1f} s after kubectl apply")
    test = digits()
    with namespace.forwarded("svc/mnist", 80) as port, ThreadPoolExecutor(2) as threads:
        found = dict(zip(CONTAINERS, threads.map(lambda name: accuracy(port, name, test), CONTAINERS), strict=True))
    (pod,) = namespace.pods("mnist")
    for container, share in found.items():
        own = json.loads(
            namespace.kubectl(
                "exec", pod["metadata"]["name"], "-c", container, "--", "cat", "/opt/program/accuracy.json"
            )
        )
        figures.append(f"{container}: {share:.1%} of {COUNT} images right, own figure {own['accuracy']:.1%} of 1000")
        assert share == pytest.approx(own["accuracy"], abs=0.02)
        assert share > 0.95
        assert (
            namespace.router_metric(pod["metadata"]["name"], "mce_container_invocations_total", container=container)
            == COUNT
        )


def test_a_request_for_one_container_leaves_the_others_counter_unchanged(namespace: Namespace) -> None:
    (pod,) = namespace.pods("mnist")
    name = pod["metadata"]["name"]
    series = "mce_container_invocations_total"
    before = {container: namespace.router_metric(name, series, container=container) for container in CONTAINERS}
    with namespace.forwarded("svc/mnist", 80) as port:
        accuracy(port, CONTAINERS[0], digits()[:5])
    after = {container: namespace.router_metric(name, series, container=container) for container in CONTAINERS}
    assert after == {CONTAINERS[0]: before[CONTAINERS[0]] + 5, CONTAINERS[1]: before[CONTAINERS[1]]}
