"""The TLS that clients see: one server context, made anew at a reload."""

import ssl
from pathlib import Path

from proxy.contract.settings import SettingsError
from proxy.negotiate import ALPN


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and up with this certificate chain and key (PEM), no renegotiation, ALPN `postgresql`.

    Raises SettingsError naming the file at fault.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"proxy.tls_certificate_file, proxy.tls_key_file: {certificate} and {key} are no usable pair: {error}"
        ) from error
    return context
