"""How a client hands its token over, before anything is known of it.

Owns the messages that ask for the token and that carry it. Never looks into a token (see `proxy.contract.token`) and
never logs one.
"""

from proxy.errors import ProtocolViolation
from proxy.leg import Leg
from proxy.wire import messages

PASSWORD = ord("p")
"""The type of every message that answers an authentication request."""
PASSWORD_BYTES = 65_535 - 4
"""PostgreSQL's own limit for a password message (PG_MAX_AUTH_TOKEN_LENGTH), which counts the length word."""


async def by_password(client: Leg) -> str:
    """Ask for the token as a password in clear. Raises ProtocolViolation, ClientGone."""
    client.write(messages.AUTHENTICATION_CLEARTEXT)
    body = await _answer(client)
    if not body or body.find(b"\0") != len(body) - 1:
        raise ProtocolViolation("a password without its end, or with more behind it")
    return body[:-1].decode("utf-8", "replace")


async def _answer(client: Leg) -> bytes:
    kind, body = await client.read(PASSWORD_BYTES)
    if kind != PASSWORD:
        raise ProtocolViolation(f"expected a password, got message {kind}")
    return body
