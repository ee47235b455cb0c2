"""What the tests of the command share: a person, and a control service with a proxy."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.certs import Authority
from tests.integration.client.person import Person
from tests.integration.client.service import Edge, Service


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Somebody who has never used the command."""
    home = tmp_path / "home"
    home.mkdir()
    return Person(home=home)


@pytest.fixture(scope="session")
def service(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A control service, shared by a worker's tests: look only at what you have made."""
    with Service(tmp_path_factory.mktemp("control"), ca) as running:
        yield running


@pytest.fixture(scope="session")
def edge(service: Service) -> Iterator[Edge]:
    """A proxy that has joined the service."""
    joined = Edge(service)
    yield joined
    joined.close()


@pytest.fixture
def somebody(service: Service, tmp_path: Path) -> Callable[[str], Person]:
    """Somebody known to the service, by name, with a key in the environment."""

    def make(name: str) -> Person:
        home = tmp_path / name
        home.mkdir(exist_ok=True)
        return Person(home=home, variables=service.variables(name))

    return make
