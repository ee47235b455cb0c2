"""Directives: what control tells the proxies (DESIGN.md 4.5). Shapes and their encoding only.

The stream `GET /v1/directives?after=CURSOR` is NDJSON that does not end: first a `snapshot` (all that is in force),
then each directive as it is decided, with a cursor that only grows, and a `heartbeat` at least every HEARTBEAT_S. A
proxy that has heard nothing for LEASE_S has lost its lease.
"""

from typing import TypeAlias

import msgspec

HEARTBEAT_S = 2.0
LEASE_S = 10.0


class Directive(msgspec.Struct, kw_only=True, frozen=True, tag_field="type"):
    """What every line of the stream has. `at` is when control wrote it, in nanoseconds since the epoch."""

    cursor: int
    at: int


class Revoke(Directive, frozen=True, kw_only=True, tag="revoke"):
    """Every session of the grant ends, and no other one starts."""

    grant: str
    expires_at: float
    """The grant's own end, seconds since the epoch: the revocation need not be remembered past it."""
    by: str
    reason: str = ""


class Kill(Directive, frozen=True, kw_only=True, tag="kill"):
    """One session ends."""

    session: str
    by: str
    reason: str = ""


class Keys(Directive, frozen=True, kw_only=True, tag="keys"):
    """The key set has changed: `jwks` is the whole of it, as JSON text (RFC 7517)."""

    jwks: str


class Revocation(msgspec.Struct, kw_only=True, frozen=True):
    """One revoked grant, in a snapshot."""

    grant: str
    expires_at: float
    by: str
    decided_at: int
    """Nanoseconds since the epoch."""


class Snapshot(Directive, frozen=True, kw_only=True, tag="snapshot"):
    """All that is in force: every revocation whose grant has not yet expired, and the key set."""

    revoked: list[Revocation]
    jwks: str


class Heartbeat(Directive, frozen=True, kw_only=True, tag="heartbeat"):
    """Control is alive and the stream is whole up to `cursor`."""


AnyDirective: TypeAlias = Revoke | Kill | Keys | Snapshot | Heartbeat

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyDirective] = msgspec.json.Decoder(AnyDirective)


class DirectiveError(Exception):
    """A line that is no directive."""


def encode(directive: AnyDirective) -> bytes:
    """The line for `directive`, newline included."""
    return _encoder.encode(directive) + b"\n"


def decode(line: bytes) -> AnyDirective:
    """The directive on `line`. Raises DirectiveError; an unknown type is an error, never passed over."""
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DirectiveError(f"not a directive: {error}") from error


class Joining(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/proxies/join`: a proxy registers its public key with a join token."""

    name: str
    join_token: str
    public_key: str
    """Ed25519, the raw 32 bytes in base64url without padding (as `x` of RFC 8037)."""


class Joined(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to `Joining`: what the proxy verifies tokens with."""

    issuer: str
    audience: str
    jwks: str


class Acknowledged(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to `POST /v1/records` (NDJSON lines as they stand in the journal): stored, or known already."""

    stored: int
    known: int
