"""How a client hands its token over, before anything is known of it: as a password, or by OAUTHBEARER (RFC 7628).

Owns the messages that ask for the token and that carry it; the listener says which way is asked for, because an
authentication request can name one only. Never looks into a token (see `proxy.contract.token`), never logs one, and
never decides. https://www.postgresql.org/docs/current/sasl-authentication.html#SASL-OAUTHBEARER
"""

import asyncio
import json
import re
import struct
from contextlib import suppress
from typing import Protocol

from proxy.errors import ClientGone, NoToken, ProtocolViolation
from proxy.leg import Leg
from proxy.wire import messages
from proxy.wire.startup import StartupError, parse_password

PASSWORD = ord("p")
"""The type of every message that answers an authentication request."""
PASSWORD_BYTES = 65_535 - 4
"""PostgreSQL's own limit for such a message (PG_MAX_AUTH_TOKEN_LENGTH), which counts the length word."""
MECHANISM = b"OAUTHBEARER"
ANSWER_S = 5.0
"""How long a client may take to acknowledge that its token is refused."""

CHALLENGE_BYTES = 1_900
"""libpq takes an authentication request of up to 2,000 bytes (PQconnectPoll in fe-connect.c)."""

_SASL, _SASL_CONTINUE = 10, 11
_NOTHING_YET = -1
"""In place of the first response's length: the client wants to be asked once more."""
_ACKNOWLEDGED = b"\x01"
# RFC 7628, 3.1: gs2-header kvsep *kvpair kvsep. Neither channel binding (`p=`) nor an authzid is known to PostgreSQL.
_FIRST = re.compile(rb"[ny],,\x01((?:[A-Za-z]+=[\t\n\r -~]*\x01)*)\x01")
_BEARER = re.compile(r"bearer +([-A-Za-z0-9._~+/]+=*)", re.IGNORECASE)


class Asking(Protocol):
    """A way to ask for a token."""

    async def token(self, client: Leg) -> str:
        """What the client gives for its token. Raises ProtocolViolation, ClientGone, NoToken."""

    async def decline(self, client: Leg) -> None:
        """Say what must be said before the ErrorResponse that refuses it."""


class Password:
    """The token is asked for as a password in clear."""

    async def token(self, client: Leg) -> str:
        """See `Asking`."""
        client.write(messages.AUTHENTICATION_CLEARTEXT)
        kind, body = await client.read(PASSWORD_BYTES)
        try:
            return parse_password(kind, body)
        except StartupError as error:
            raise ProtocolViolation(str(error)) from error

    async def decline(self, client: Leg) -> None:
        """See `Asking`."""


class OAuthBearer:
    """The token is asked for by OAUTHBEARER. A client that has none is told where tokens come from, and comes again."""

    def __init__(self, *, issuer: str, scope: str) -> None:
        """`issuer` is a URL that clients know the source of tokens by; each may be empty."""
        self._challenge = _authentication(_SASL_CONTINUE, challenge(issuer, scope))

    async def token(self, client: Leg) -> str:
        """See `Asking`."""
        client.write(_authentication(_SASL, MECHANISM + b"\0\0"))
        auth = _parse_first(await self._first(client))
        if not auth:
            client.write(self._challenge)
            if await _answer(client) != _ACKNOWLEDGED:
                raise ProtocolViolation("expected the acknowledgement of RFC 7628, 3.2.3")
            raise NoToken
        bearer = _BEARER.fullmatch(auth)
        return bearer[1] if bearer is not None else ""  # which is as bad a token as any

    async def _first(self, client: Leg) -> bytes:
        """The client's initial response, however it comes (RFC 4422, 3.3)."""
        mechanism, _, rest = (await _answer(client)).partition(b"\0")
        if mechanism != MECHANISM or len(rest) < 4:  # noqa: PLR2004 the length word
            raise ProtocolViolation("another SASL mechanism than the one that is offered")
        length, response = int.from_bytes(rest[:4], signed=True), rest[4:]
        if length == _NOTHING_YET and not response:
            client.write(_authentication(_SASL_CONTINUE, b""))
            return await _answer(client)
        if length != len(response):
            raise ProtocolViolation("a SASL response of another length than it says")
        return response

    async def decline(self, client: Leg) -> None:
        """See `Asking`. Whatever the client says to it, the token is refused."""
        client.write(self._challenge)
        with suppress(ClientGone, ProtocolViolation, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await _answer(client)


def challenge(issuer: str, scope: str) -> bytes:
    """What a client without a token, or with a bad one, is told (RFC 7628, 3.2.2).

    libpq takes an issuer that is the configuration's URL without its well-known end, and asks for a token with what it
    finds there, or leaves all that to the program's own hook (PQsetAuthDataHook).
    """
    told = {"status": "invalid_token"}
    bare = json.dumps(told).encode()
    if issuer:
        told["openid-configuration"] = f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
    if scope:
        told["scope"] = scope
    whole = json.dumps(told).encode()
    return whole if len(whole) <= CHALLENGE_BYTES else bare


def _parse_first(response: bytes) -> str:
    """The value of `auth`, which is empty in discovery. Other keys (host, port) tell us nothing, as in PostgreSQL."""
    matched = _FIRST.fullmatch(response)
    if matched is None:
        raise ProtocolViolation("a malformed OAUTHBEARER response")
    pairs = [pair.partition(b"=") for pair in matched[1].split(b"\x01")]
    values = [value for key, _, value in pairs if key == b"auth"]
    if len(values) != 1:
        raise ProtocolViolation(f"an OAUTHBEARER response with {len(values)} values of auth")
    return values[0].decode("ascii")


async def _answer(client: Leg) -> bytes:
    kind, body = await client.read(PASSWORD_BYTES)
    if kind != PASSWORD:
        raise ProtocolViolation(f"expected a password, got message {kind}")
    return body


def _authentication(code: int, data: bytes) -> bytes:
    """An authentication request."""
    return b"R" + struct.pack("!ii", 8 + len(data), code) + data
