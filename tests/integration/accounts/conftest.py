"""Servers of three versions, and stands on them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract.settings import AccessProfile
from tests.harness.binaries import version_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.integration.accounts import stand
from tests.integration.accounts.stand import Stand

MakeStand: TypeAlias = Callable[..., Stand]
HBA = ["hostssl all +staff 127.0.0.1/32 cert"]


@pytest.fixture(scope="session", params=stand.versions())
def cluster(request: pytest.FixtureRequest, ca: Authority) -> Iterator[Cluster]:
    """One server of each version, shared. Each test has grants of its own."""
    settings = {"max_prepared_transactions": "10"}
    with Cluster(ca, programs=version_bin(request.param), hba=HBA, settings=settings) as started:
        stand.install(started)
        yield started


@pytest.fixture
def make_stand(cluster: Cluster, tmp_path: Path) -> MakeStand:
    """Makes stands with this profile; by default each is a proxy of its own, with a key of its own."""
    count = iter(range(100))

    def make(profile: AccessProfile, **changed: Any) -> Stand:  # noqa: ANN401 any field of Stand
        options = {"folder": tmp_path / f"stand{next(count)}", "key": Ed25519PrivateKey.generate(), **changed}
        return Stand(cluster=cluster, profile=profile, **options)

    return make
