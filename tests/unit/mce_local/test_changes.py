from mce_api.endpoint import Limits
from mce_local import changes
from mce_local.wanted import Container, Rule, RuntimeKind, Wanted


def container(name: str, image: str = "m:1") -> Container:
    return Container(name=name, image=image, command=("python",), args=("serve",))


def wanted(*containers: Container) -> Wanted:
    rule = Rule(startup_timeout_seconds=60, invocation_timeout_seconds=60, max_concurrency=0)
    return Wanted(
        endpoint="e",
        namespace="default",
        mode="Direct",
        availability="All",
        limits=Limits(),
        runtime=RuntimeKind.PROCESS,
        containers=containers,
        rules={one.name: rule for one in containers},
    )


def test_what_is_equal_is_kept_what_differs_restarts_what_is_not_wanted_stops() -> None:
    running = {name: container(name) for name in ("same", "changed", "gone")}
    plan = changes.between(running, wanted(container("new"), container("changed", "m:2"), container("same")))
    assert plan == changes.Changes(stop=("changed", "gone"), start=("new", "changed"), keep=("same",))


def test_nothing_running_starts_everything_in_order() -> None:
    plan = changes.between({}, wanted(container("b"), container("a")))
    assert plan == changes.Changes(stop=(), start=("b", "a"), keep=())
