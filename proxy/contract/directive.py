"""Directives: what control tells the proxies (DESIGN.md 4.5). Shapes and their encoding only.

The stream `GET /v1/directives?after=CURSOR` is NDJSON that does not end: first a `snapshot` (all that is in force),
then each directive as it is decided, with a cursor that only grows, and a `heartbeat` at least every HEARTBEAT_S. A
proxy that has heard nothing for LEASE_S has lost its lease.
"""

from typing import TypeAlias

import msgspec

HEARTBEAT_S = 2.0
LEASE_S = 10.0
MOST_ORPHANS = 200
"""In one directive."""


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


class Locked(msgspec.Struct, kw_only=True, frozen=True):
    """A lock in force. It covers what fits each name that is set; with none set, everything."""

    id: str
    person: str | None = None
    target: str | None = None
    profile: str | None = None
    """Of the target, where that is set too; else of every target that has a profile of this name."""
    proxy: str | None = None
    until: float | None = None
    """Seconds since the epoch; None until it is lifted."""
    by: str
    reason: str = ""
    decided_at: int
    """Nanoseconds since the epoch."""


class Lock(Directive, frozen=True, kw_only=True, tag="lock"):
    """What the lock covers ends, and nothing that it covers starts, until it is lifted or over."""

    lock: Locked


class Unlock(Directive, frozen=True, kw_only=True, tag="unlock"):
    """A lock is lifted."""

    lock: str
    by: str


class Extension(msgspec.Struct, kw_only=True, frozen=True):
    """A grant's end has moved, once or more: the sessions that run may go on until then.

    Tokens issued before say the older end, and open nothing past that; the person gets another one.
    """

    grant: str
    expires_at: float
    """The new end, seconds since the epoch. Only ever later."""
    by: str
    decided_at: int
    """Nanoseconds since the epoch."""


class Extend(Directive, frozen=True, kw_only=True, tag="extend"):
    """The grant's end moves."""

    extension: Extension


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """A backend whose session nobody serves any more."""

    session: str
    target: str
    server: str | None
    """HOST:PORT, where the target has several."""
    pid: int
    started: str
    """ISO 8601, as in `session.start`."""


class Reap(Directive, frozen=True, kw_only=True, tag="reap"):
    """A proxy is gone: whoever else has the target ends what it has left. At most MOST_ORPHANS of them."""

    proxy: str
    """The one that is gone. It does not obey this itself."""
    orphans: list[Orphan]
    by: str | None
    """Who decided it; None where control did by itself."""


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
    """All that is in force, and no more: what a proxy remembers otherwise is over.

    Revocations and extensions are those of grants that have not yet expired.
    """

    revoked: list[Revocation]
    jwks: str
    locks: list[Locked] = []
    extended: list[Extension] = []


class Heartbeat(Directive, frozen=True, kw_only=True, tag="heartbeat"):
    """Control is alive and the stream is whole up to `cursor`."""


AnyDirective: TypeAlias = Revoke | Kill | Lock | Unlock | Extend | Reap | Keys | Snapshot | Heartbeat

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
