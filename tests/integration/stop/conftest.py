"""A keeper on the shared server, and victims for it: backends with no driver behind them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from proxy.config import read_secret
from proxy.stop import Keeper
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.integration.upstream.targets import Raw, dialler_of, log_in, profile_of, target_of

Victims: TypeAlias = Callable[[], Awaitable[Raw]]


@pytest.fixture
async def keeper(postgres: Cluster, tmp_path: Path) -> AsyncIterator[Keeper]:
    """A keeper with the rights of deploy/keeper.sql, connected."""
    keeper = Keeper("orders", target_of(postgres, tmp_path), read_secret=read_secret)
    await keeper.start()
    assert keeper.ready
    yield keeper
    await keeper.close()


@pytest.fixture
async def new_victim(postgres: Cluster, database: str, tmp_path: Path) -> AsyncIterator[Victims]:
    """Makes backends of APP in the test's own database."""
    made: list[Raw] = []

    async def make() -> Raw:
        made.append(await log_in(dialler, profile, database))
        return made[-1]

    dialler, profile = dialler_of(postgres, tmp_path), profile_of(roles.APP, tmp_path)
    yield make
    for victim in made:
        victim.close()


@pytest.fixture
async def victim(new_victim: Victims) -> Raw:
    """One of them."""
    return await new_victim()
