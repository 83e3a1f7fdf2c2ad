"""Fixtures of several files."""

import pytest

from unit.mce_operator import objects
from unit.mce_operator.passes import Cluster


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster()
    made.api.store(objects.document(replicas=2))
    await made.start()
    return made
