"""How commands reach local endpoints: the real environment and clock, in one place."""

import time

from mce_kit import clock
from mce_local import settings
from mce_local.client import Client


def client() -> Client:
    """The client of this user's state home."""
    return Client(settings=settings.read(), clock=clock.system(), sleep=time.sleep)
