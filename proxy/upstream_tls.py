"""TLS towards PostgreSQL: what `sslmode` means, client certificates, and the name that a certificate goes by in SCRAM.

Owns what the TLS engine is told and what is held against it after the handshake. Never opens a socket, never asks for
TLS (see `proxy.dial`), and never has a context that would do without it.
"""

import hashlib
import os
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from proxy.contract.settings import AccessProfile, Keeper, SettingsError, Target

Login: TypeAlias = AccessProfile | Keeper
Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]

_ALPN = "postgresql"
_WEAK_HASHES = ("md5", "sha1")


class Shown(Protocol):
    """A client certificate that is in no file."""

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have `context` show it."""


class TlsError(Exception):
    """The server's TLS is not PostgreSQL's, or not what was asked for. For the log."""


def tls_context(name: str, target: Target, path: str = "", login: Login | None = None) -> ssl.SSLContext | None:
    """The TLS context for `target`, for `login` with its client certificate; None without TLS. Raises SettingsError.

    As in libpq, `require` checks the authority if one is given. `path` is the login's section, for errors.
    https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
    """
    if target.sslmode == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([_ALPN])
    context.check_hostname = target.sslmode == "verify-full"
    if target.ca_file is not None:
        _load_pem(context, f"targets.{name}.ca_file", target.ca_file, "the authority's certificate")
    elif target.verifies_server:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.verify_mode = ssl.CERT_NONE
    if target.crl_file is not None:
        _load_pem(context, f"targets.{name}.crl_file", target.crl_file, "the authority's revocation list")
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    if login is not None and login.certificate_file is not None and login.key_file is not None:
        _load_identity(context, path, login.certificate_file, login.key_file)
    return context


def logins(name: str, target: Target) -> Iterator[tuple[str, Login]]:
    """Every login of a target, each with the path of its section."""
    yield f"targets.{name}.keeper", target.keeper
    for key, profile in target.access.items():
        yield f"targets.{name}.access.{key}", profile


class Contexts:
    """A target's TLS contexts, one for each client certificate; made anew when a file of theirs has changed."""

    def __init__(self, name: str, target: Target) -> None:
        """Make those that the configuration names, so that a fault shows at the start. Raises SettingsError."""
        self._name = name
        self._target = target
        self._made: dict[tuple[str | None, str | None], tuple[Stamp, ssl.SSLContext | None]] = {}
        for path, login in logins(name, target):
            self.get(login, path)

    def get(self, login: Login | None, path: str = "") -> ssl.SSLContext | None:
        """The context for `login`, without a client certificate where it is None; None without TLS.

        Raises SettingsError. Looks at files: call it in a thread.
        """
        if self._target.sslmode == "disable":
            return None
        files = (None, None) if login is None else (login.certificate_file, login.key_file)
        stamp = _stamp(self._target.ca_file, self._target.crl_file, *files)
        kept = self._made.get(files)
        if kept is None or kept[0] != stamp:
            kept = stamp, tls_context(self._name, self._target, path or f"targets.{self._name}", login)
            self._made[files] = kept
        return kept[1]

    def showing(self, certificate: Shown | None) -> ssl.SSLContext | None:
        """A context of its own for a certificate that no file has; None without TLS. As `get`."""
        if certificate is None:
            return self.get(None)
        context = tls_context(self._name, self._target)
        if context is not None:
            certificate.load_into(context)
        return context


def _stamp(*files: str | None) -> Stamp:
    """What changes when one of `files` does. A file that is missing says so when it is loaded."""
    found = []
    for file in files:
        if file is not None and os.path.exists(file):  # noqa: PTH110 no Path for what happens at every session
            status = os.stat(file)  # noqa: PTH116 as above
            found.append((file, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _load_pem(context: ssl.SSLContext, path: str, file: str, what: str) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {file}: {error}; name a PEM file with {what}") from error


def _load_identity(context: ssl.SSLContext, path: str, certificate: str, key: str) -> None:
    """Load a client certificate with its key. Raises SettingsError."""
    if fault := key_fault(Path(key)):
        raise SettingsError(f"{path}.key_file: {fault}")
    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path}.key_file: {key} and {certificate} are no pair of PEM key and certificate: {error}"
        ) from error


def key_fault(key: Path) -> str | None:
    """Why libpq would not take this private key: it is no file, or others may read it.

    A key of root's may be readable by its group, as credentials often are (initialize_SSL in fe-secure-openssl.c).
    """
    try:
        status = key.stat()
    except OSError as error:
        return f"{key} cannot be read: {error.strerror}; name a file that this user may read"
    if not stat.S_ISREG(status.st_mode):
        return f"{key} is not a file"
    closed_to = stat.S_IRWXG | stat.S_IRWXO
    if status.st_uid == 0:
        closed_to &= ~stat.S_IRGRP
    if status.st_mode & closed_to:
        return (
            f"{key} is open to others (mode {status.st_mode & 0o777:o}); chmod 600 it (640 will do where root owns it)"
        )
    return None


def no_passphrase() -> str:
    """Answer OpenSSL, which would else ask the terminal."""
    raise ValueError("the key is encrypted; store it without a passphrase")


def check_alpn(tls: ssl.SSLObject, *, direct: bool) -> None:
    """Refuse a server that speaks another protocol inside TLS (ALPACA). Raises TlsError.

    In direct TLS the server must have chosen ours, as libpq has it; behind SSLRequest an older one chooses none.
    """
    chosen = tls.selected_alpn_protocol()
    if chosen != _ALPN and (direct or chosen is not None):
        raise TlsError(f"the server chose the protocol {chosen!r} in TLS, not {_ALPN!r}")


def server_end_point(tls: ssl.SSLObject) -> bytes:
    """The channel binding data `tls-server-end-point` of a connection. Raises TlsError."""
    encoded = tls.getpeercert(binary_form=True)
    if encoded is None:
        raise TlsError("the server has no certificate to bind the login to")
    return end_point(encoded)


def end_point(encoded: bytes) -> bytes:
    """The hash of a server's certificate that a login is bound to (RFC 5929, section 4.1). Raises TlsError.

    It is the hash that the certificate is signed with, and SHA-256 where that is MD5 or SHA-1.
    """
    try:
        algorithm = x509.load_der_x509_certificate(encoded).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsError(f"the server's certificate cannot be read: {error}") from error
    if algorithm is None:  # Ed25519: RFC 5929 leaves it undefined, and PostgreSQL itself gives up
        raise TlsError(
            "the server's certificate is signed without a hash (as by Ed25519), so no channel binding is possible; set "
            "`channel_binding` to 'disable', or give the server another certificate"
        )
    return hashlib.new("sha256" if algorithm.name in _WEAK_HASHES else algorithm.name, encoded).digest()
