"""What the tests of the dialler share."""

import ssl
from collections.abc import Iterator

import pytest

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.integration.upstream.stage import BY_BOTH, BY_CERTIFICATE, CLEAR, MD5, TRUSTED


@pytest.fixture
def server_context(ca: Authority) -> ssl.SSLContext:
    """A server certificate for 127.0.0.1."""
    return ca.server_context()


@pytest.fixture(scope="module")
def odd_postgres(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL whose pg_hba.conf asks some logins for other things than SCRAM."""
    methods = {TRUSTED: "trust", CLEAR: "password", MD5: "md5", BY_CERTIFICATE: "cert", BY_BOTH: "scram-sha-256"}
    options = {BY_BOTH: " clientcert=verify-full"}
    hba = [f"hostssl all {login.user} 127.0.0.1/32 {how}{options.get(login, '')}" for login, how in methods.items()]
    with Cluster(ca, hba=[*hba, f"local all {CLEAR.user} password", f"local all {TRUSTED.user} trust"]) as cluster:
        for login in methods:
            stored = "md5" if login in (CLEAR, MD5) else "scram-sha-256"
            cluster.psql(
                f"SET password_encryption = '{stored}'; CREATE ROLE {login.user} LOGIN PASSWORD :'password'",
                password=login.password,
            )
        roles.install(cluster)
        yield cluster
