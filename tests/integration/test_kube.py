"""The Kubernetes client against a server that fails: what is repeated, what waits, and what is never sent."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from kubernetes.aio import client

from mce_api import names
from mce_kit.kube import AioKubeApi, ApiError
from mce_operator import election
from mce_operator.election import Timing
from support.api_proxy import ApiProxy, Fault, api_proxy
from support.api_server import ApiServer, api_server, endpoint

SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "team-a", "name": "s"}, "spec": {}}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


@pytest.fixture
def proxy(server: ApiServer) -> Iterator[ApiProxy]:
    with api_proxy(server.upstream) as running:
        yield running


class Client:
    """A client whose right to write and whose token the test sets."""

    def __init__(self, url: str) -> None:
        self.settings = client.Configuration(host=url)
        self.write_seconds = float("inf")
        self.loads = 0
        self.next_token = ""
        self.transport = client.ApiClient(self.settings)
        self.api = AioKubeApi(self.transport, 5, self._load, lambda: self.write_seconds)

    async def _load(self) -> None:
        self.loads += 1
        self.settings.api_key["BearerToken"] = f"Bearer {self.next_token}"


@pytest.fixture
async def caller(proxy: ApiProxy) -> AsyncIterator[Client]:
    made = Client(proxy.url)
    yield made
    await made.transport.close()  # type: ignore[no-untyped-call]
    await asyncio.sleep(0)


async def test_a_list_that_can_not_be_continued_is_read_anew_and_whole(
    server: ApiServer, proxy: ApiProxy, caller: Client
) -> None:
    for number in range(501):
        server.put({**SERVICE, "metadata": {"namespace": "team-a", "name": f"s{number}"}})
    assert len((await caller.api.list("Service", "team-a")).items) == 501
    with proxy.fault(Fault.status(410), path="continue=") as hits:
        assert len((await caller.api.list("Service", "team-a")).items) == 501
        assert hits() == 1


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.status(429), Fault.reset()])
async def test_reads_are_repeated(server: ApiServer, proxy: ApiProxy, caller: Client, fault: Fault) -> None:
    server.put(endpoint("one"))
    with proxy.fault(fault, times=2):
        assert (await caller.api.get(names.KIND, "team-a", "one"))["metadata"]["name"] == "one"


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.status(429), Fault.reset()])
async def test_writes_are_not(proxy: ApiProxy, caller: Client, fault: Fault) -> None:
    with proxy.fault(fault, times=1) as hits:
        with pytest.raises(ApiError) as caught:
            await caller.api.apply(SERVICE)
        assert caught.value.is_outage
        assert hits() == 1
    await caller.api.apply(SERVICE)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_what_is_our_own_fault_is_no_outage_and_not_repeated(
    proxy: ApiProxy, caller: Client, status: int
) -> None:
    with proxy.fault(Fault.status(status)) as hits:
        with pytest.raises(ApiError) as caught:
            await caller.api.get("Service", "team-a", "s")
        assert (caught.value.status, caught.value.is_outage, hits()) == (status, False, 1)


async def test_a_server_that_wants_no_more_for_a_while_gets_no_more(proxy: ApiProxy, caller: Client) -> None:
    with proxy.fault(Fault.status(429, retry_after=2), times=1):
        with pytest.raises(ApiError) as caught:
            await caller.api.apply(SERVICE)
        assert caught.value.retry_after_seconds == 2
        seen, begun = len(proxy.seen), time.monotonic()
        waiting = asyncio.ensure_future(caller.api.list("Service", "team-a"))
        with pytest.raises(ApiError, match="404"):
            await caller.api.get_lease("team-a", "l", 3)  # the right to write does not wait
        assert len(proxy.seen) == seen + 1
        await waiting
        assert time.monotonic() - begun > 1.5


async def test_a_token_that_is_refused_is_read_anew_and_the_call_is_made_again(proxy: ApiProxy, caller: Client) -> None:
    proxy.token, caller.next_token = "new", "new"
    await caller.api.apply(SERVICE)
    assert caller.loads == 1
    proxy.token = "newer"
    with pytest.raises(ApiError) as caught:
        await caller.api.apply(SERVICE)
    assert (caught.value.status, caught.value.is_outage) == (401, True)


async def test_who_does_not_lead_sends_no_write(proxy: ApiProxy, caller: Client) -> None:
    caller.write_seconds = 0
    with pytest.raises(ApiError, match="another operator may be writing by now"):
        await caller.api.apply(SERVICE)
    with pytest.raises(ApiError, match="NotLeader"):
        await caller.api.delete("Service", "team-a", "s", "uid")
    with pytest.raises(ApiError, match="NotLeader"):
        await caller.api.create_event({"metadata": {"namespace": "team-a"}})
    assert proxy.seen == []
    lease = election.held(("team-a", "l"), None, "me", Timing(), __import__("datetime").datetime.now())
    assert (await caller.api.put_lease(lease, 3))["metadata"]["name"] == "l"


async def test_a_write_that_is_not_through_when_the_right_to_it_ends_is_given_up(
    proxy: ApiProxy, caller: Client
) -> None:
    caller.write_seconds = 0.3
    begun = time.monotonic()
    with proxy.fault(Fault.silence()), pytest.raises(ApiError) as caught:
        await caller.api.apply(SERVICE)
    assert (caught.value.reason, time.monotonic() - begun < 3) == ("Timeout", True)
