"""Which event loops a module's tests run on: asyncio's; and uvloop's too where the module says BOTH_LOOPS = True."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.harness.loop import GoodbyeLoop
from tests.unit.proxy.stand import MakeStand, Stand

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """The loops by their names (pytest-asyncio's hook)."""
    loops: dict[str, LoopFactory] = {"asyncio": GoodbyeLoop}
    module = item.getparent(pytest.Module)
    if module is not None and getattr(module.obj, "BOTH_LOOPS", False):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """A plain one."""
    made = Stand(tmp_path / "journal")
    yield made
    made.close()


@pytest.fixture
async def stands(tmp_path: Path) -> AsyncIterator[MakeStand]:
    """Makes as many as the test wants."""
    made: list[Stand] = []

    def make(**changed: Any) -> Stand:  # noqa: ANN401 Stand's own
        made.append(Stand(tmp_path / f"journal{len(made)}", **changed))
        return made[-1]

    yield make
    for one in made:
        one.close()
