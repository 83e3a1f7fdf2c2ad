"""Which containers a request goes to: one in Direct mode, all in order in Serial mode. Pure."""

from mce_api import errors
from mce_api.errors import Reason, Refusal
from mce_api.routes import RouteTable, Target
from mce_router.invocation import Invocation


class Routes:
    """A route table prepared for look-ups; made once for each table."""

    __slots__ = ("_by_name", "_names", "table")

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self._by_name = {target.name: (target,) for target in table.targets}
        self._names = tuple(self._by_name)

    def choose(self, invocation: Invocation) -> tuple[Target, ...] | Refusal:
        """The containers for `invocation`, in order, never empty."""
        table = self.table
        if invocation.endpoint and invocation.endpoint != table.endpoint:
            # The service's own text names the account (seen); there is none here.
            return Refusal(Reason.ENDPOINT_UNKNOWN, f"Endpoint {invocation.endpoint} not found.")
        if table.mode == "Serial":
            return errors.target_not_supported(table.endpoint) if invocation.target else table.targets
        if not invocation.target:
            return errors.target_missing(table.endpoint, self._names)
        chosen = self._by_name.get(invocation.target)
        return chosen or errors.target_unknown(table.endpoint, invocation.target, self._names)
