"""Certificates that trustme does not make: of any key and signature, and revocation lists. Never used elsewhere."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from tests.harness.certs import CertificateFiles

Key: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """An authority that signs with `key`, by `hash_` (None for Ed25519) and with PSS where `pss`."""

    key: Key
    hash_: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None
    pss: bool = False

    @property
    def _name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])

    def write(self, file: Path) -> Path:
        """Its own certificate."""
        builder = self._builder(self._name, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        file.write_bytes(self._sign(builder).public_bytes(serialization.Encoding.PEM))
        return file

    def server(self, folder: Path, stem: str = "server") -> CertificateFiles:
        """A server certificate for 127.0.0.1, with a key of the usual kind."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = self._builder(x509.Name([]), key).add_extension(x509.SubjectAlternativeName([address]), critical=True)
        files = CertificateFiles(certificate=folder / f"{stem}.pem", key=folder / f"{stem}.key")
        files.key.touch(mode=0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        files.certificate.write_bytes(self._sign(builder).public_bytes(serialization.Encoding.PEM))
        return files

    def revoke(self, file: Path, certificates: Sequence[Path]) -> Path:
        """A list of revoked certificates, which may be none."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=self._name, last_update=now - _DAY, next_update=now + _DAY
        )
        for path in certificates:
            serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder(serial_number=serial, revocation_date=now - _DAY).build()
            builder = builder.add_revoked_certificate(revoked)
        file.write_bytes(builder.sign(self.key, self.hash_).public_bytes(serialization.Encoding.PEM))
        return file

    def _builder(self, subject: x509.Name, key: Key) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - _DAY,
            not_valid_after=now + _DAY,
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        scheme = None
        if self.pss and self.hash_ is not None:
            scheme = padding.PSS(padding.MGF1(self.hash_), self.hash_.digest_size)
        return builder.sign(self.key, self.hash_, rsa_padding=scheme)
