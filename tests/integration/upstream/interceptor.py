"""Somebody in the way: ends the client's TLS with a certificate of its own, and speaks TLS to the real server."""

import ssl

from tests.harness.postgres import Cluster
from tests.harness.relay import Behaviour, Relay, edit, end_tls
from tests.harness.upstream import SASL
from tests.harness.wire import message

BOTH_MECHANISMS = message("R", b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
"""What PostgreSQL offers over TLS."""


@edit
def hide_binding(said: bytes) -> bytes:
    """The server's words without its offer of channel binding."""
    return said.replace(BOTH_MECHANISMS, message("R", SASL))


def interceptor(cluster: Cluster, context: ssl.SSLContext, *server: Behaviour) -> Relay:
    """One who shows `context`'s certificate. `server` changes what the server says."""
    return Relay(cluster.port, server=server, opening=end_tls(context, cluster.client_context(), cluster.host))
