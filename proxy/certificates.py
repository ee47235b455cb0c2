"""Minting: a client certificate for one person, signed by an authority that PostgreSQL trusts, for minutes.

Owns what stands in it. The private key is made for it and never touches a disk.
https://www.postgresql.org/docs/current/auth-cert.html
"""

import os
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.contract.settings import SettingsError
from proxy.upstream_tls import key_fault

LASTS_S = 120.0
"""It is used once, at once. PostgreSQL looks at it during the handshake and never again."""
SKEW_S = 120.0
"""How far PostgreSQL's clock may be behind ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate with its key, both PEM."""

    chain: bytes
    key: bytes = field(repr=False)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have `context` show it. The ssl module reads files alone, so it gets one that is in memory (memfd)."""
        descriptor = os.memfd_create("curfew-certificate", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.key + self.chain)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")


class Mint:
    """The authority of one access profile. Its files are read for each certificate: a renewed one counts at once."""

    def __init__(self, path: str, *, certificate_file: str, key_file: str) -> None:
        """`path` is the section of the two options, for errors."""
        self._path = path
        self._certificate_file = Path(certificate_file)
        self._key_file = Path(key_file)

    def mint(self, name: str, *, until: float) -> Certificate:
        """A certificate for the role `name`, until the grant's end at the latest. Raises SettingsError."""
        authority, authority_key = self._load()
        now = datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        except ValueError as error:
            raise SettingsError(f"{self._path}: no certificate can be for {name!r}: {error}") from error
        lasts = timedelta(seconds=max(min(LASTS_S, until - now.timestamp()), 1.0))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=SKEW_S))
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        )
        unhashed = isinstance(authority_key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        signed = builder.sign(authority_key, None if unhashed else hashes.SHA256())
        chain = signed.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
        return Certificate(chain=chain, key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def faults(self) -> list[str]:
        """Why it cannot mint, one sentence each."""
        try:
            self._load()
        except SettingsError as error:
            return list(error.faults)
        return []

    def _load(self) -> tuple[x509.Certificate, "_SigningKey"]:
        if fault := key_fault(self._key_file):
            raise SettingsError(f"{self._path}.ca_key_file: {fault}")
        try:
            certificate = x509.load_pem_x509_certificate(self._certificate_file.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{self._path}.ca_certificate_file: {self._certificate_file} is no PEM certificate: {error}"
            ) from error
        try:
            key = load_pem_private_key(self._key_file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SettingsError(
                f"{self._path}.ca_key_file: {self._key_file} is no PEM key without a passphrase"
            ) from error
        if not isinstance(key, _SigningKey) or key.public_key() != certificate.public_key():
            raise SettingsError(
                f"{self._path}.ca_key_file: {self._key_file} is not the key of {self._certificate_file}"
            )
        return certificate, key


_SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
