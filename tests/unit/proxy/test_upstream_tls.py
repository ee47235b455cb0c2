"""The TLS context of a target: libpq's meanings of sslmode, keys of client certificates, and channel binding."""

import hashlib
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from proxy.contract.settings import Keeper, SettingsError, Target
from proxy.upstream_tls import TlsError, end_point, key_fault, tls_context
from tests.harness.certs import Authority
from tests.harness.keys import Root

SHA1 = """\
-----BEGIN CERTIFICATE-----
MIIBbDCCARKgAwIBAgIUGYPRsHfCW2j1KQOM2Q/n7gQm9tAwCQYHKoZIzj0EATAM
MQowCAYDVQQDDAF3MB4XDTI2MTEyMjA1NDUyNloXDTI2MTEyMzA1NDUyNlowDDEK
MAgGA1UEAwwBdzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFN7LSND4WJ7D+AY
UWhK3iBZXxDptC2MTN0LejIHevVJvEv4s+EFsS10atXx/c1FRSAuPqI7y02p4GhV
JwfsIAijUzBRMB0GA1UdDgQWBBSQ8ZrwMVIhXGFneAZf/boXZIgvqTAfBgNVHSME
GDAWgBSQ8ZrwMVIhXGFneAZf/boXZIgvqTAPBgNVHRMBAf8EBTADAQH/MAkGByqG
SM49BAEDSQAwRgIhAKEKd7RVNaAU81Jbgzl228bJq65x3SIAzoSYIPRNkU28AiEA
/J0TQoDtZwzXUVK9Mqq8VBzJclYmcmzSAzJ8W9PoveI=
-----END CERTIFICATE-----
"""
MD5 = """\
-----BEGIN CERTIFICATE-----
MIIB9DCCAV2gAwIBAgIUbpkG7UQM7DlI2qrYYfSJShfVhTwwDQYJKoZIhvcNAQEE
BQAwDDEKMAgGA1UEAwwBdzAeFw0yNjExMjIwNTQ1NDdaFw0yNjExMjMwNTQ1NDda
MAwxCjAIBgNVBAMMAXcwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGBAN3qucIB
Y25wnTlMDN5Wm/8QrOz44vW2MD+BVKDS48CgnUlcAdD6Jpm1v8l1Q3RkqpiplPKv
Ze2CFsCx+KV0ww9HlsO0PcEMKiv5BlJLWTuOXqNFa31z6aHA2ITA0h4pH4HKPb/q
+tjnUUYaHzrDHMWTp3NAeKBznB1BANtV0aJzAgMBAAGjUzBRMB0GA1UdDgQWBBQG
eLDi+D8hcGy2k/hmanQJDG0EejAfBgNVHSMEGDAWgBQGeLDi+D8hcGy2k/hmanQJ
DG0EejAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBBAUAA4GBAKHGisTJCL+Z
5lIhWzlEZUhn/666Up/Gjml6Rv7qUqNQTKk7UdH7J3vsYuYpI3K1qSIG0eKCjUDF
4ioOypTJ3a5kf1OkUQfgU/IMfNcXknj91BdgiMK2XkAyYLvE+YhC2bEMeCtSSVzX
SalAF9F1uYrn6P6QrIJds2I1yBMGXRX1
-----END CERTIFICATE-----
"""


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


# Client certificates' keys


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_our_own(tmp_path: Path, mode: int) -> None:
    """Nobody else may read it."""
    key = tmp_path / "key"
    key.touch(mode)
    assert key_fault(key) is None


@pytest.mark.parametrize(
    ("mode", "fine"), [(0o640, True), (0o440, True), (0o660, False), (0o650, False), (0o644, False)]
)
@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file of root's, and one of somebody else's")
def test_a_key_of_roots(tmp_path: Path, mode: int, *, fine: bool) -> None:
    """Its group may read it, and do no more; with another owner, not even that."""
    key = tmp_path / "key"
    key.touch()
    key.chmod(mode)
    assert (key_fault(key) is None) is fine
    os.chown(key, 65_534, 65_534)
    assert "is open to others" in (key_fault(key) or "")


def test_what_is_no_key(tmp_path: Path) -> None:
    """A folder, and nothing at all."""
    assert key_fault(tmp_path) == f"{tmp_path} is not a file"
    assert "cannot be read: No such file" in (key_fault(tmp_path / "none") or "")


# Channel binding


@pytest.mark.parametrize("hash_", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512(), hashes.SHA224()])
def test_the_end_point_by_the_signatures_hash(tmp_path: Path, hash_: Any) -> None:  # noqa: ANN401 any of the library's
    """RFC 5929, section 4.1."""
    encoded = certificate(Root(key=ec.generate_private_key(ec.SECP256R1()), hash_=hash_), tmp_path)
    assert end_point(encoded) == hashlib.new(hash_.name, encoded).digest()


def test_the_end_point_of_a_weak_signature() -> None:
    """SHA-256 stands in for SHA-1 and MD5: openssl made these two, as no library signs so any more."""
    for text in (SHA1, MD5):
        encoded = ssl.PEM_cert_to_DER_cert(text)
        assert end_point(encoded) == hashlib.sha256(encoded).digest()


def test_no_end_point(tmp_path: Path) -> None:
    """A signature without a hash, and what is no certificate."""
    with pytest.raises(TlsError, match="set `channel_binding` to 'disable'"):
        end_point(certificate(Root(key=ed25519.Ed25519PrivateKey.generate(), hash_=None), tmp_path))
    for encoded in (b"", b"0\x03\x02\x01\x01", bytes(100)):
        with pytest.raises(TlsError, match="cannot be read"):
            end_point(encoded)


def certificate(root: Root, folder: Path) -> bytes:
    """A server's certificate that `root` signed."""
    return ssl.PEM_cert_to_DER_cert(root.server(folder).certificate.read_text())
