"""What the API answers, as far as the command looks into it. Shapes only; members it does not know are passed over.

Whatever is not needed to act is optional, so that a newer or older service can still be talked to.
"""

from typing import Any, TypeVar

import msgspec

from control.client.errors import ClientError

Kind = TypeVar("Kind")


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The person whose key is used."""

    name: str
    full_name: str | None = None
    roles: list[str] = []


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A way in to a target."""

    name: str
    description: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Something that access can be asked for."""

    name: str
    description: str | None = None
    database: str = ""
    databases: list[str] = []
    profiles: list[Profile] = []


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and the grant it led to."""

    id: str
    person: str
    target: str
    profile: str
    state: str
    databases: list[str] | None = None
    duration_s: float | None = None
    reason: str | None = None
    created_at: str | None = None
    decided_at: str | None = None
    decided_by: str | None = None
    comment: str | None = None
    grant: str | None = None
    certificate: str | None = None
    end: str | None = None
    extends: str | None = None
    """The grant that it is to prolong, where it is for that."""


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """More time that a grant was given."""

    duration_s: float
    by: str | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A grant."""

    id: str
    person: str
    target: str
    profile: str
    state: str
    databases: list[str] | None = None
    starts_at: str | None = None
    expires_at: str | None = None
    approved_by: str | None = None
    reason: str | None = None
    end: str | None = None
    extensions: list[Extension] = []
    revoked_by: str | None = None
    revoke_reason: str | None = None


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A grant's signed text, and where to use it."""

    token: str
    grant: str
    user: str
    dbname: str
    host: str
    port: int
    expires_at: str | None = None

    def __repr__(self) -> str:
        """Without the token: it is a credential, and a repr ends up in messages."""
        return f"Token(grant={self.grant!r})"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session."""

    id: str
    state: str | None = None
    person: str | None = None
    grant: str | None = None
    target: str | None = None
    database: str | None = None
    profile: str | None = None
    proxy: str | None = None
    address: str | None = None
    application_name: str | None = None
    started_at: str | None = None
    expires_at: str | None = None
    ended_at: str | None = None
    end_reason: str | None = None
    ended_by: str | None = None
    running_since: str | None = None
    running_command: str | None = None
    outcome: str | None = None
    statements: int | None = None
    stop_s: float | None = None
    faults: int = 0
    """How often the service was sent something that breaks the session's chain."""


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """A lock; `sessions` and `warnings` are said of a new one."""

    id: str
    person: str | None = None
    target: str | None = None
    profile: str | None = None
    proxy: str | None = None
    state: str | None = None
    reason: str = ""
    created_at: str | None = None
    created_by: str | None = None
    until: str | None = None
    lifted_by: str | None = None
    lift_reason: str | None = None
    sessions: int | None = None
    warnings: list[str] = []


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy and the key it signs with."""

    name: str
    public_key: str
    public_keys: list[str] = []
    """All it has had, where it has had several: an old session is signed with the key of its time."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A list, or the beginning of one: `next` is where it goes on."""

    items: list[Any]
    next: str | int | None = None


def read(kind: type[Kind], value: object) -> Kind:
    """`value`, decoded JSON, as `kind`. Raises ClientError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ClientError(
            f"the service's answer is not what this version of curfew understands: {error}",
            hint="is the address that of a Curfew control service, and are both of one version?",
        ) from error
