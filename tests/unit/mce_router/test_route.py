from mce_api.errors import Reason, Refusal
from mce_api.routes import RouteTable, Target
from mce_router import parse
from mce_router.invocation import Invocation, RequestHead
from mce_router.route import Routes

TARGETS = (Target(name="firstContainer", port=1), Target(name="second", port=2))
DIRECT = Routes(RouteTable(namespace="n", endpoint="e", mode="Direct", targets=TARGETS))
SERIAL = Routes(RouteTable(namespace="n", endpoint="e", mode="Serial", targets=TARGETS))


def asking(target: str = "", endpoint: str = "") -> Invocation:
    url = f"/endpoints/{endpoint}/invocations" if endpoint else "/invocations"
    headers = [(b"host", b"h")]
    if target:
        headers.append((b"x-amzn-sagemaker-target-container-hostname", target.encode()))
    parsed = parse.invocation(RequestHead(b"POST", url.encode(), "1.1", tuple(headers), upgrade=False), "AllTraffic")
    assert isinstance(parsed, Invocation)
    return parsed


def _reason(chosen: tuple[Target, ...] | Refusal) -> Reason:
    assert isinstance(chosen, Refusal)
    return chosen.reason


def test_direct_calls_the_named_container_only() -> None:
    assert DIRECT.choose(asking("second")) == (TARGETS[1],)


def test_direct_compares_names_with_their_case() -> None:
    assert _reason(DIRECT.choose(asking("firstcontainer"))) is Reason.TARGET_UNKNOWN


def test_direct_needs_a_target_and_says_which_there_are() -> None:
    chosen = DIRECT.choose(asking())
    assert isinstance(chosen, Refusal)
    assert chosen.reason is Reason.TARGET_MISSING
    assert "firstContainer, second" in chosen.message


def test_serial_calls_all_in_order() -> None:
    assert SERIAL.choose(asking()) == TARGETS


def test_serial_refuses_a_target_even_a_real_one() -> None:
    assert _reason(SERIAL.choose(asking("second"))) is Reason.TARGET_NOT_SUPPORTED


def test_another_endpoints_name_is_refused() -> None:
    assert _reason(DIRECT.choose(asking("second", endpoint="other"))) is Reason.ENDPOINT_UNKNOWN
    assert DIRECT.choose(asking("second", endpoint="e")) == (TARGETS[1],)
