"""Certificates for the tests: an authority of their own, and what it signs, written to files. Never used elsewhere."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme

SERVER_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """A certificate and its private key, as PEM files. The key is readable by its owner alone."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority. Its own certificate stands in `file`; what it signs goes into `folder` too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.file)

    def server(
        self, *names: str, stem: str = "server", folder: Path | None = None, until: datetime | None = None
    ) -> CertificateFiles:
        """A server certificate for `names`, else for localhost and its addresses, which ends at `until`."""
        return self._write(self._authority.issue_cert(*(names or SERVER_NAMES), not_after=until), stem, folder)

    def client(
        self, common_name: str, *, stem: str = "client", folder: Path | None = None, until: datetime | None = None
    ) -> CertificateFiles:
        """A client certificate with the given common name (what PostgreSQL's `cert` method compares with the role)."""
        return self._write(self._authority.issue_cert(common_name=common_name, not_after=until), stem, folder)

    def key(self) -> Path:
        """The authority's own key, for what mints certificates itself."""
        path = self._folder / "ca.key"
        path.touch(mode=0o600)
        self._authority.private_key_pem.write_to_path(path)
        return path

    def client_context(self, shows: CertificateFiles | None = None) -> ssl.SSLContext:
        """A client's TLS context that trusts this authority alone and checks the name; it may show a certificate."""
        context = ssl.create_default_context(cafile=self.file)
        if shows is not None:
            context.load_cert_chain(shows.certificate, shows.key)
        return context

    def server_context(
        self, *names: str, stem: str = "server", folder: Path | None = None, until: datetime | None = None
    ) -> ssl.SSLContext:
        """A server's TLS context, which shows what `server` makes."""
        files = self.server(*names, stem=stem, folder=folder, until=until)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        return context

    def _write(self, leaf: trustme.LeafCert, stem: str, folder: Path | None) -> CertificateFiles:
        folder = folder or self._folder
        files = CertificateFiles(certificate=folder / f"{stem}.pem", key=folder / f"{stem}.key")
        files.key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(files.key)
        files.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return files
