"""The TLS that clients see: a context for each certificate, made anew at a reload; and what clients show in it.

Owns which certificate a client gets, and which of theirs is taken. It never judges whether a grant covers one.
"""

import base64
import hashlib
import ssl
from pathlib import Path

from cryptography import x509

from proxy.config import Certificate, ProxySettings
from proxy.contract.record import Tls
from proxy.contract.settings import SettingsError
from proxy.leg import Leg
from proxy.negotiate import ALPN


class ServerTls:
    """The contexts of a configuration: TLS 1.2 and up, no renegotiation, no tickets, ALPN `postgresql`."""

    def __init__(self, settings: ProxySettings) -> None:
        """Load every certificate. Raises SettingsError naming the file at fault."""
        self._settings = settings
        self._stamps = _stamps(settings)  # before they are read: what changes meanwhile is read again
        first = Certificate(certificate_file=settings.tls_certificate_file, key_file=settings.tls_key_file)
        self._default = _context(settings, first, "proxy.tls_certificate_file, proxy.tls_key_file")
        self._named: dict[str, ssl.SSLContext] = {}
        for index, certificate in enumerate(settings.tls_certificates):
            path = f"proxy.tls_certificates[{index}]"
            context = _context(settings, certificate, path)
            for name in served_names(path, Path(certificate.certificate_file)):
                self._named.setdefault(name, context)

    def context_for(self, name: str) -> ssl.SSLContext:
        """The context with the certificate for the name that a client asks for (SNI), else the default one."""
        asked = name.lower().rstrip(".")
        wildcard = "*." + asked.partition(".")[2]  # stands for one label (RFC 9525, 6.3)
        return self._named.get(asked) or self._named.get(wildcard) or self._default

    def renewed(self) -> "ServerTls | None":
        """The same anew, where a file has changed since it was read. Raises SettingsError, as a new one does."""
        return None if _stamps(self._settings) == self._stamps else ServerTls(self._settings)


def served_names(path: str, certificate: Path) -> list[str]:
    """The DNS names in a certificate, in lower case. Raises SettingsError naming the key at `path`."""
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise SettingsError(f"{path}.certificate_file: {certificate} says no name that it is for: {error}") from error
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def encryption(leg: Leg) -> Tls | None:
    """What the client leg's TLS is, for the record; None where there is none."""
    tls = leg.transport.get_extra_info("ssl_object")
    cipher = None if tls is None else tls.cipher()
    return None if cipher is None else Tls(version=cipher[1], cipher=cipher[0], certificate=thumbprint(leg))


def thumbprint(leg: Leg) -> str | None:
    """The `x5t#S256` of the certificate that the client has shown and proved to have (RFC 8705, 3.1), if any."""
    tls = leg.transport.get_extra_info("ssl_object")
    shown: bytes | None = None if tls is None else tls.getpeercert(binary_form=True)
    if shown is None:
        return None
    return base64.urlsafe_b64encode(hashlib.sha256(shown).digest()).rstrip(b"=").decode()


def _stamps(settings: ProxySettings) -> list[tuple[int, int, int] | None]:
    """What tells a file from what it was before, for each file that is read; None where it cannot be looked at."""
    more = [file for one in settings.tls_certificates for file in (one.certificate_file, one.key_file)]
    stamps: list[tuple[int, int, int] | None] = []
    for file in (settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file, *more):
        try:
            found = None if file is None else Path(file).stat()
        except OSError:
            found = None
        stamps.append(None if found is None else (found.st_ino, found.st_mtime_ns, found.st_size))
    return stamps


def _context(settings: ProxySettings, certificate: Certificate, path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # TLS 1.3's: OP_NO_TICKET makes them stateful, and no client of PostgreSQL's resumes.
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(certificate.certificate_file, certificate.key_file)
    except (OSError, ssl.SSLError) as error:
        files = f"{certificate.certificate_file} and {certificate.key_file}"
        raise SettingsError(f"{path}: {files} are no usable pair: {error}") from error
    if settings.tls_client_ca_file is not None:
        required = settings.tls_client_certificate == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(cafile=settings.tls_client_ca_file)
        except (OSError, ssl.SSLError) as error:
            file = settings.tls_client_ca_file
            raise SettingsError(f"proxy.tls_client_ca_file: {file} has no usable certificate: {error}") from error
    return context
