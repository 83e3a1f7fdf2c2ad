"""From `kubectl apply` to answers and back to nothing, with light containers on a real cluster."""

import json
import time
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from mce_api.names import container_uid
from support import cases, cluster
from support import http as caller
from support.cluster import Namespace

pytestmark = pytest.mark.e2e

DIRECT = ("firstContainer", "second")
"""Containers of the endpoint `direct`, in their order."""


def light(name: str, **env: str) -> dict[str, Any]:
    """A container of the configurable test model."""
    variables = [{"name": key, "value": value} for key, value in {"MODEL_NAME": name, **env}.items()]
    return cases.container(name, env=variables, startupTimeoutSeconds=60)


def test_a_direct_endpoint_goes_in_service_and_each_container_answers_for_itself(namespace: Namespace) -> None:
    namespace.apply(cases.document("direct", containers=[light("firstContainer"), light("second")]))
    namespace.wait_in_service("direct")
    (pod,) = namespace.pods("direct")
    with namespace.forwarded("svc/direct", 80) as port:
        for name in ("firstContainer", "second"):
            assert caller.post(port, b"hi", target=name, content_type="text/plain").body == f"{name}(hi)".encode()
        reply = caller.post(port, b"hi", target="nobody")
        assert (reply.status, reply.headers["x-mce-reason"]) == (400, "TargetUnknown")
    count = {
        name: namespace.router_metric(pod["metadata"]["name"], "mce_container_invocations_total", container=name)
        for name in ("firstContainer", "second")
    }
    assert count == {"firstContainer": 1, "second": 1}


def test_the_router_checks_by_netlink_whose_process_answers_for_a_container(namespace: Namespace) -> None:
    (pod,) = namespace.pods("direct")
    name = pod["metadata"]["name"]
    targets = json.loads(namespace.router_page(name, "/targets"))
    assert targets["listenerCheck"] == "netlink"
    assert {target["name"]: target["state"] for target in targets["targets"]} == {
        "firstContainer": "Healthy",
        "second": "Healthy",
    }
    users = [
        int(namespace.kubectl("exec", name, "-c", container["name"], "--", "id", "-u"))
        for container in pod["spec"]["containers"]
    ]
    assert users == [container_uid(0), container_uid(1)]


def test_one_page_has_the_metrics_of_the_router_and_how_asking_each_container_went(namespace: Namespace) -> None:
    (pod,) = namespace.pods("direct")
    text = namespace.router_page(pod["metadata"]["name"], "/metrics?containers=1")
    assert cluster.sample(text, "mce_container_invocations_total", container="second") >= 1
    for name in DIRECT:
        cluster.sample(text, "mce_container_scrape_success", container=name)


def test_boto3_invokes_the_endpoint_at_its_own_url(namespace: Namespace) -> None:
    with namespace.forwarded("svc/direct", 80) as port:
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        reply = client.invoke_endpoint(
            EndpointName="direct", TargetContainerHostname="second", ContentType="text/plain", Body=b"hi"
        )
        assert reply["Body"].read() == b"second(hi)"
        with pytest.raises(ClientError, match="no container with hostname SECOND"):
            client.invoke_endpoint(EndpointName="direct", TargetContainerHostname="SECOND", Body=b"hi")
        client.close()


def test_kubectl_get_and_describe_say_what_is_going_on(namespace: Namespace) -> None:
    namespace.wait_status("direct", lambda status: status["containersReady"] == "2/2", "2/2", 5)
    header, line = namespace.kubectl("get", "mcep", "direct").splitlines()
    assert header.split() == ["NAME", "MODE", "READY", "STATE", "REASON", "AGE"]
    assert line.split()[:4] == [
        "direct",
        "Direct",
        "2/2",
        "InService",
    ]  # a reason is there only when something is wrong
    described = namespace.kubectl("describe", "mcep", "direct")
    assert "Events:" in described
    assert "InService" in described.partition("Events:")[2]


def test_another_pod_reaches_it_by_its_dns_name(namespace: Namespace) -> None:
    code = (
        "import urllib.request as u;"
        f"r=u.Request('http://direct.{namespace.name}.svc/invocations',b'hi',"
        "{'Content-Type':'text/plain','X-Amzn-SageMaker-Target-Container-Hostname':'second'});"
        "print(u.urlopen(r,timeout=10).read().decode())"
    )
    (pod,) = namespace.pods("direct")
    name = pod["metadata"]["name"]
    # A model container is as good a caller as any other pod: it resolves the name and goes through the Service.
    assert namespace.kubectl("exec", name, "-c", "second", "--", "python3", "-c", code).strip() == "second(hi)"


def test_a_serial_endpoint_calls_its_containers_in_order(namespace: Namespace) -> None:
    namespace.apply(cases.document("chain", mode="Serial", containers=[light("one"), light("two"), light("three")]))
    namespace.wait_in_service("chain")
    with namespace.forwarded("svc/chain", 80) as port:
        assert caller.post(port, b"x", content_type="text/plain").body == b"three(two(one(x)))"
    namespace.kubectl("delete", "mcep", "chain")


def test_fifteen_containers_go_in_service(namespace: Namespace, figures: list[str]) -> None:
    names = [f"model-{number}" for number in range(15)]
    began = time.monotonic()
    namespace.apply(cases.document("fifteen", containers=[light(name) for name in names]))
    namespace.wait_in_service("fifteen", 180)
    figures.append(f"endpoint of 15 containers in service {time.monotonic() - began:.1f} s after kubectl apply")
    namespace.wait_status("fifteen", lambda status: status["containersReady"] == "15/15", "15/15", 5)
    with namespace.forwarded("svc/fifteen", 80) as port:
        for name in names:
            assert caller.post(port, b"x", target=name, content_type="text/plain").body == f"{name}(x)".encode()
    namespace.kubectl("delete", "mcep", "fifteen")


def test_metrics_of_cpu_and_memory_reach_the_operators_port(namespace: Namespace, installed: Namespace) -> None:
    def leader() -> str:
        """The pod that reads them: the holder of the Lease, whose name ends with a part of its own."""
        holder: str = installed.get("lease", "mce-operator")["spec"]["holderIdentity"]
        return holder.rpartition("-")[0]

    def found() -> bool:
        with installed.forwarded(f"pod/{leader()}", 9090) as port:
            text = cluster.fetch(f"http://127.0.0.1:{port}/metrics")
        labels = {"namespace": namespace.name, "endpoint": "direct", "container": "firstContainer"}
        try:
            memory = cluster.sample(text, "mce_container_memory_working_set_bytes", **labels)
            cluster.sample(text, "mce_container_cpu_utilization_percent", **labels)
        except KeyError:
            return False
        return memory > 1_000_000

    cluster.wait_until(found, 90, lambda: "CPU and memory series of the container")


def test_restarting_the_operator_writes_nothing_and_restarts_no_pod(namespace: Namespace, installed: Namespace) -> None:
    def facts() -> dict[str, str]:
        kinds = ("deployment/direct", "service/direct", "serviceaccount/direct", "mcep/direct")
        return {kind: namespace.get(kind)["metadata"]["resourceVersion"] for kind in kinds} | {
            pod["metadata"]["name"]: str(sum(c["restartCount"] for c in pod["status"]["containerStatuses"]))
            for pod in namespace.pods("direct")
        }

    before = facts()
    installed.kubectl("rollout", "restart", "deployment", "-l", "app.kubernetes.io/name=mce")
    installed.kubectl("rollout", "status", "deployment", "-l", "app.kubernetes.io/name=mce", "--timeout=120s")
    time.sleep(10)
    assert facts() == before


def test_an_edited_and_a_deleted_child_come_back(namespace: Namespace) -> None:
    namespace.kubectl("scale", "deployment", "direct", "--replicas=3")
    namespace.kubectl("delete", "service", "direct")

    def healed() -> bool:
        try:
            return bool(namespace.get("deployment/direct")["spec"]["replicas"] == 1 and namespace.get("service/direct"))
        except cluster.CommandError:
            return False

    cluster.wait_until(healed, 10, lambda: "children healed")


def test_suspend_takes_the_pods_away_and_brings_them_back(namespace: Namespace) -> None:
    namespace.wait_in_service("direct")
    namespace.kubectl("patch", "mcep", "direct", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    namespace.wait_status("direct", lambda status: status["state"] == "OutOfService", "OutOfService")
    cluster.wait_until(lambda: namespace.pods("direct") == [], 60, lambda: "no pods")
    namespace.kubectl("patch", "mcep", "direct", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    namespace.wait_in_service("direct")


def test_deleting_the_resource_removes_everything(namespace: Namespace) -> None:
    namespace.kubectl("delete", "mcep", "direct", "--wait")

    def gone() -> bool:
        left = namespace.kubectl(
            "get", "deployments,replicasets,pods,services,serviceaccounts,configmaps", "-l",
            "serving.mce.dev/endpoint=direct", "-o", "name",
        )  # fmt: skip
        return left.strip() == ""

    cluster.wait_until(gone, 90, lambda: "nothing left of direct")


@pytest.mark.parametrize(
    ("name", "broken", "reason", "says", "seconds"),
    [
        pytest.param(
            "no-image", {"image": "localhost/mce/not-there:1"}, "ImagePull", "localhost/mce/not-there:1", 60, id="image"
        ),
        pytest.param("exits", {"env": {"EXIT_AFTER": "0", "EXIT_CODE": "3"}}, "Exit", "code 3", 60, id="exit"),
        pytest.param("mute", {"env": {"PING_STATUS": "never"}}, "PingTimeout", "/ping", 60, id="mute"),
    ],
)
def test_a_container_that_does_not_come_up_is_named_with_its_cause_and_recovers(
    namespace: Namespace, figures: list[str], name: str, broken: dict[str, Any], reason: str, says: str, seconds: float
) -> None:
    bad = light("bad", **broken.get("env", {}))
    bad["image"] = broken.get("image", bad["image"])
    began = time.monotonic()
    namespace.apply(cases.document(name, containers=[light("good"), bad]))

    def shown(status: dict[str, Any]) -> bool:
        containers = {container["name"]: container for container in status.get("containers", [])}
        return bool(containers.get("bad", {}).get("reason") == reason)

    namespace.wait_status(name, shown, f"container bad has reason {reason}", seconds)
    figures.append(f"{reason} of a container shown {time.monotonic() - began:.1f} s after kubectl apply")
    status = namespace.status(name)
    containers = {container["name"]: container for container in status["containers"]}
    assert says in containers["bad"]["message"]
    assert containers["good"]["reason"] in ("", "Starting")
    ready = next(condition for condition in status["conditions"] if condition["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert "bad" in ready["message"]
    assert reason in namespace.kubectl("get", "mcep", name)

    namespace.apply(cases.document(name, containers=[light("good"), light("bad")]))
    namespace.wait_in_service(name, 120)
    assert namespace.status(name).get("failureReason", "") == ""
    namespace.kubectl("delete", "mcep", name)
