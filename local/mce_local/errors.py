"""What keeps an endpoint from running here: always the thing, the place and the fix in one text."""


class LocalError(Exception):
    """Shown as it is, without a traceback."""


class PortTaken(LocalError):  # noqa: N818 - says what is
    """A port that must be had belongs to somebody else."""


class StartFailed(LocalError):  # noqa: N818 - says what happened
    """An endpoint did not come into service."""
