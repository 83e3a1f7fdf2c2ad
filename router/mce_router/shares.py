"""What one of several workers may take of what a route table allows: its share of every cap. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from mce_api import routes
from mce_api.routes import InvalidRouteTable, RouteTable


def of(table: RouteTable, worker: int, workers: int) -> RouteTable:
    """The table for the worker with the number `worker` (from 0) of `workers`.

    A cap is divided evenly, the first workers get one more; 0 stays no cap. The shares of a cap add up to it, so the
    whole router never goes over it; a worker that is full refuses although another may have room.

    Raises:
        InvalidRouteTable: if a cap is smaller than the number of workers: some would have to refuse everything.
    """
    if workers == 1:
        return table
    form = json.loads(routes.dump(table))
    faults = []
    for path, holder in _caps(form):
        cap = holder["maxConcurrency"]
        if 0 < cap < workers:
            faults.append(f"{path}: {cap} is less than the {workers} workers that share it (raise it, or 0: no cap)")
        holder["maxConcurrency"] = cap // workers + (worker < cap % workers)
    if faults:
        raise InvalidRouteTable("; ".join(faults))
    return routes.parse(json.dumps(form))


def _caps(form: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything with a cap, and its path for a message."""
    yield "limits.maxConcurrency", form["limits"]
    for place, target in enumerate(form["targets"]):
        yield f"targets[{place}].maxConcurrency", target
