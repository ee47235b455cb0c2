"""Somebody in the way: ends the client's TLS with a certificate of its own, and speaks TLS to the real server."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeAlias

from tests.harness.postgres import Cluster
from tests.integration.upstream.rogue import SASL, message

Edit: TypeAlias = Callable[[bytes], bytes]

BOTH_MECHANISMS = message("R", b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
"""What PostgreSQL offers over TLS."""


def hide_binding(said: bytes) -> bytes:
    """The server's words without its offer of channel binding."""
    return said.replace(BOTH_MECHANISMS, message("R", SASL))


class Interceptor:
    """Listens on loopback. `edit` changes what the server says."""

    def __init__(self, cluster: Cluster, context: ssl.SSLContext, edit: Edit = bytes) -> None:
        self._cluster = cluster
        self._context = context
        self._edit = edit
        self._server: asyncio.Server
        self._open: list[asyncio.StreamWriter] = []
        self.passed = 0
        """Bytes of the server's that it decrypted and handed on."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            request = await reader.readexactly(8)
            writer.write(b"S")
            await writer.start_tls(self._context)
            there, server = await asyncio.open_connection(self._cluster.host, self._cluster.port)
            self._open.append(server)
            server.write(request)
            assert await there.readexactly(1) == b"S"
            await server.start_tls(self._cluster.client_context(), server_hostname=self._cluster.host)
            await asyncio.gather(self._copy(reader, server, bytes), self._copy(there, writer, self._hand_on))

    def _hand_on(self, said: bytes) -> bytes:
        self.passed += len(said)
        return self._edit(said)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, edit: Edit) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await source.read(65_536):
                sink.write(edit(data))
        sink.close()
