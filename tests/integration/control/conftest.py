"""A control service for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.certs import Authority
from tests.integration.control.service import Service


@pytest.fixture
def fresh(tmp_path: Path, ca: Authority) -> Iterator[Service]:
    """One that was never set up."""
    service = Service(tmp_path, ca)
    yield service
    service.close()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, ca: Authority) -> Service:
    """One that was set up and never serves."""
    return Service(tmp_path_factory.mktemp("template"), ca).init()


@pytest.fixture
def ready(fresh: Service, template: Service) -> Service:
    """One that was set up."""
    return fresh.init_as(template)


@pytest.fixture
def service(ready: Service) -> Service:
    """One that serves."""
    return ready.start()
