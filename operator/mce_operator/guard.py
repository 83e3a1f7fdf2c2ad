"""Whether new pods fail too many of their invocations while they bake. Pure: from the routers' counters, read anew.

A router counts from its pod's start, so what it says is about the new revision and nothing else: unless that came to
the pod in place, without a start.
"""

from collections import Counter
from datetime import timedelta
from typing import Final

from mce_api.endpoint import Spec
from mce_operator import resize
from mce_operator.history import History
from mce_operator.observed import Observed, Pod
from mce_operator.resize import Method

LEAST_INVOCATIONS: Final = 20
"""Of a container, over all new pods: with fewer, one failure would decide."""
PAUSE: Final = timedelta(seconds=5)
"""Between two looks at the routers."""


def watched(spec: Spec, past: History | None, observed: Observed) -> tuple[Pod, ...]:
    """The pods whose routers are to be asked: those of a revision under way that can be gone back from."""
    rollout = observed.rollout
    if spec.rollout.max_error_percent is None or not spec.rollout.auto_rollback:
        return ()
    if past is None or not past.good or past.rejection or rollout is None or rollout.is_settled:
        return ()
    change = resize.account(observed)
    if change is not None and change.method is not Method.ROLLOUT:
        return ()  # these pods have counted since long before it
    return tuple(pod for pod in observed.pods_of(past.template) if pod.is_ready)


def failing(spec: Spec, pods: tuple[Pod, ...], observed: Observed) -> str:
    """Which container fails too often in the watched pods, with the figures; empty: none that is known of."""
    limit = spec.rollout.max_error_percent
    if limit is None:
        return ""
    invocations, errors = Counter[str](), Counter[str]()
    for pod in pods:
        report = observed.routers.get(pod.name)
        for name, traffic in report.traffic.items() if report else ():
            invocations[name] += int(traffic.invocations)
            errors[name] += int(traffic.errors_5xx)
    for container in spec.containers:
        asked, failed = invocations[container.name], errors[container.name]
        if asked >= LEAST_INVOCATIONS and failed * 100 > limit * asked:
            return (
                f"container {container.name}: {failed} of {asked} invocations of the new pods failed with 5xx, "
                f"more than rollout.maxErrorPercent {limit}"
            )
    return ""
