"""Which event loops a module's tests run on: asyncio's; and uvloop's too where the module says BOTH_LOOPS = True."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.harness.loop import GoodbyeLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """The loops by their names (pytest-asyncio's hook)."""
    loops: dict[str, LoopFactory] = {"asyncio": GoodbyeLoop}
    module = item.getparent(pytest.Module)
    if module is not None and getattr(module.obj, "BOTH_LOOPS", False):
        loops["uvloop"] = uvloop.new_event_loop
    return loops
