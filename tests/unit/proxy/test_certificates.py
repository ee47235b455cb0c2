"""Minted client certificates: for whom, how long, for what, and never without the authority's own key."""

import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from proxy.certificates import LASTS_S, Mint
from proxy.contract.settings import SettingsError
from tests.harness.certs import Authority


@pytest.fixture
def mint(ca: Authority) -> Mint:
    """The tests' authority, minting."""
    return Mint("account", certificate_file=str(ca.file), key_file=str(ca.key()))


@pytest.mark.parametrize("name", ["alice", 'o\'brien, "CN=root"', "é" * 31, "new\nline"])
def test_what_stands_in_it(mint: Mint, name: str) -> None:
    """The role's name as it is, for client authentication alone, for two minutes at most."""
    minted = x509.load_pem_x509_certificate(mint.mint(name, until=time.time() + 3_600).chain)
    (common,) = minted.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common.value == name
    assert len(list(minted.subject)) == 1
    assert minted.not_valid_after_utc.timestamp() <= time.time() + LASTS_S
    usage = minted.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in usage] == ["1.3.6.1.5.5.7.3.2"]
    assert not minted.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_it_never_outlives_the_grant(mint: Mint) -> None:
    """By no more than the second that a certificate's times are rounded to."""
    until = time.time() + 10
    minted = x509.load_pem_x509_certificate(mint.mint("alice", until=until).chain)
    assert minted.not_valid_after_utc.timestamp() <= until


def test_it_is_loaded_without_a_file(mint: Mint) -> None:
    """The key is in memory alone, and not in what is shown of it."""
    minted = mint.mint("alice", until=time.time() + 600)
    minted.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert "PRIVATE" not in repr(minted)


def test_files_that_do_not_do(ca: Authority, mint: Mint, tmp_path: Path) -> None:
    """No key, another one's, one that others can read."""
    assert mint.faults() == []
    other = ca.client("somebody", folder=tmp_path)
    open_key = tmp_path / "open.key"
    open_key.write_bytes(ca.key().read_bytes())
    open_key.chmod(0o644)
    for key, fault in (
        (tmp_path / "none", "cannot be read"),
        (other.key, "is not the key of"),
        (open_key, "is open to"),
    ):
        wrong = Mint("account", certificate_file=str(ca.file), key_file=str(key))
        assert fault in wrong.faults()[0]
        assert wrong.faults()[0].startswith("account.ca_key_file: ")
        with pytest.raises(SettingsError):
            wrong.mint("alice", until=time.time() + 600)
