"""The TLS context of a target: libpq's meanings of sslmode."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from proxy.contract.settings import Keeper, SettingsError, Target
from proxy.upstream_tls import tls_context
from tests.harness.certs import Authority


def target(**changed: Any) -> Target:  # noqa: ANN401 any field of Target
    """A target with what matters here."""
    fields = {"host": "db.example", "database": "db", **changed}
    return Target(keeper=Keeper(user="k"), access={}, **fields)


@pytest.mark.parametrize(
    ("sslmode", "with_ca", "verifies", "checks_name"),
    [
        ("require", False, False, False),
        ("require", True, True, False),
        ("verify-ca", True, True, False),
        ("verify-ca", False, True, False),
        ("verify-full", True, True, True),
        ("verify-full", False, True, True),
    ],
)
def test_modes(ca: Authority, sslmode: str, *, with_ca: bool, verifies: bool, checks_name: bool) -> None:
    """What each mode checks, with an authority given and without; never below TLS 1.2."""
    context = tls_context("orders", target(sslmode=sslmode, ca_file=str(ca.file) if with_ca else None))
    assert context is not None
    assert (context.verify_mode is ssl.CERT_REQUIRED) is verifies
    assert context.check_hostname is checks_name
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    if with_ca:
        assert len(context.get_ca_certs()) == 1  # the system's do not count beside it


def test_default_is_to_verify_all() -> None:
    """A target that says nothing is verified in full."""
    context = tls_context("orders", target())
    assert context is not None
    assert context.check_hostname


def test_no_tls() -> None:
    """Where it is disabled."""
    assert tls_context("orders", target(sslmode="disable")) is None


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_unusable_authority(tmp_path: Path, content: str | None) -> None:
    """An authority's file that is missing or no certificate is named with its key."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=r"targets\.orders\.ca_file: .*ca\.pem"):
        tls_context("orders", target(ca_file=str(file)))
