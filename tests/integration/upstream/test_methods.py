"""How a real PostgreSQL may authenticate a login: what is answered, and to whom."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from proxy.contract.settings import AccessProfile
from proxy.upstream import UpstreamError
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.integration.upstream.stage import CLEAR, MD5, TRUSTED, refused
from tests.integration.upstream.targets import dialler_of, log_in, profile_of


async def test_let_in_without_being_asked(odd_postgres: Cluster, tmp_path: Path) -> None:
    """A login without a password expects that; one with a password does where `require_auth` has "none"."""
    (await log_in(dialler_of(odd_postgres, tmp_path), AccessProfile(user=TRUSTED.user))).close()
    profile = profile_of(TRUSTED, tmp_path)
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(odd_postgres, tmp_path), profile)
    assert "let us in without asking for the password" in refused(caught.value)
    content = dialler_of(odd_postgres, tmp_path, require_auth=["scram-sha-256", "none"])
    (await log_in(content, profile)).close()


@pytest.mark.parametrize("sslmode", ["verify-full", "verify-ca", "require"])  # `require` with an authority is verify-ca
async def test_a_password_in_clear_where_it_may_be(odd_postgres: Cluster, tmp_path: Path, sslmode: str) -> None:
    """To a server whose certificate was checked, and that may ask for it."""
    dialler = dialler_of(odd_postgres, tmp_path, sslmode=sslmode, require_auth=["password"])
    (await log_in(dialler, profile_of(CLEAR, tmp_path))).close()


async def test_a_password_in_clear_where_it_may_not_be(odd_postgres: Cluster, tmp_path: Path) -> None:
    """Not by default, and not over a unix socket, whose server shows no certificate."""
    socket = {"host": str(odd_postgres.folder), "require_auth": ["password"]}
    for changed in ({}, {"require_auth": ["md5"]}, socket):
        with pytest.raises(UpstreamError) as caught:
            await log_in(dialler_of(odd_postgres, tmp_path, **changed), profile_of(CLEAR, tmp_path))
        assert "in clear" in refused(caught.value, CLEAR.password)


async def test_md5(odd_postgres: Cluster, tmp_path: Path) -> None:
    """Its answer is worth the password to whoever has it: it is given where that is allowed, and the log says so."""
    profile = profile_of(MD5, tmp_path)
    with capture_logs() as logs, pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(odd_postgres, tmp_path), profile)
    assert "asks for md5; `require_auth` has scram-sha-256 alone" in refused(caught.value, MD5.password)
    assert "asks for md5" in logs[0]["why"]
    (await log_in(dialler_of(odd_postgres, tmp_path, require_auth=["md5"]), profile)).close()


async def test_a_wrong_password_by_md5(odd_postgres: Cluster, tmp_path: Path) -> None:
    """Is ours, not the client's."""
    profile = profile_of(roles.Login(user=MD5.user, password="canary"), tmp_path)
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(odd_postgres, tmp_path, require_auth=["md5"]), profile)
    assert "28P01" in refused(caught.value, "canary")


async def test_scram_where_it_may_not_be(postgres: Cluster, tmp_path: Path) -> None:
    """The list holds for the good method too, as libpq's does."""
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(postgres, tmp_path, require_auth=["md5"]), profile_of(roles.APP, tmp_path))
    assert "asks for SCRAM" in refused(caught.value)
