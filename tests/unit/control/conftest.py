"""A control service for the tests that need a whole one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from control.store.migrate import migrate
from tests.unit.control.desk import Desk, Edge


@pytest.fixture(autouse=True)
def _plain_log() -> Iterator[None]:
    """A log in plain JSON: structlog's own default draws every frame of a traceback, which takes seconds."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database."""
    path = tmp_path_factory.mktemp("template") / "db"
    migrate(path)
    return path


@pytest.fixture
async def desk(tmp_path: Path, template: Path) -> AsyncIterator[Desk]:
    """A service with a key and somebody for each role."""
    desk = Desk(tmp_path, template)
    try:
        await desk.start()
        yield desk
    finally:
        await desk.close()


@pytest.fixture
async def edge(desk: Desk) -> Edge:
    """A proxy that has joined it."""
    return await desk.edge()
