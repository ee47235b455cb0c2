"""The JSON of the API: what goes in (an unknown key is an error) and what comes out."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from control.domain import grants, keyring, locks, requests, sessions
from control.domain.people import Role
from control.operations.grants import Told
from control.times import SECOND, rfc3339
from proxy.contract.grant import EndMode


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / SECOND


def _is_set(value: object) -> bool:
    return value is not None


def _date_time(value: object) -> object:
    if not isinstance(value, str) or DATE_TIME.match(value) is None:
        raise ValueError("must be a date and time with its offset, as 2026-11-22T12:00:00Z")
    return value


DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:")
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime.fromtimestamp(0, UTC)
Shown = TypeVar("Shown")
Time = Annotated[str, BeforeValidator(rfc3339), Field(json_schema_extra={"format": "date-time"})]
"""Nanoseconds since the epoch in, RFC 3339 out."""
When = Annotated[AwareDatetime, BeforeValidator(_date_time)]
"""RFC 3339 in. Pydantic by itself would take a number too, and read it as it likes."""
Whole = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
Names = Annotated[tuple[str, ...], Field(max_length=64)]


class _In(BaseModel):
    """Read from a caller."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Out(BaseModel):
    """Made from what the domain has under the same names."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Page(_Out, Generic[Shown]):
    """A part of a list. `next` is the `after` of the next part."""

    items: list[Shown]
    next: str | None = None

    @classmethod
    def of(cls, items: Sequence[Shown], following: int | None) -> Self:
        """These, and where the next part begins."""
        return cls(items=list(items), next=None if following is None else str(following))


class NewPerson(_In):
    """Somebody to add."""

    name: str = Field(examples=["dba1"], description="Also their PostgreSQL user name at the proxy.")
    full_name: str = ""
    roles: frozenset[Role]


class PersonChange(_In):
    """What is to change; what is left out stays."""

    roles: frozenset[Role] | None = None
    disabled: StrictBool | None = None


class NewRequest(_In):
    """What is asked for. Without `databases`, the target's default one; without `duration_s`, the default."""

    target: str
    profile: str
    reason: str
    databases: Names | None = None
    duration_s: Whole | None = None
    max_sessions: Whole | None = None
    addresses: Names = Field(default=(), description="CIDRs that the person connects from.")
    certificate: str | None = Field(
        default=None, description="SHA-256 thumbprint (base64url) of the client certificate that the person shows."
    )
    end: EndMode = Field(
        default=EndMode.HARD, description="How the sessions are to end. The approver sees it, and picks."
    )


class NewExtension(_In):
    """How much longer a grant is to last."""

    duration_s: Whole
    reason: str


class Approval(_In):
    """How a request is approved. `duration_s` may only be shorter than what was asked for."""

    comment: str | None = None
    duration_s: Whole | None = None
    end: EndMode | None = Field(
        default=None,
        description="How the grant's sessions end, whatever was asked for: `hard` (the default) ends the running "
        "statement too, `finish` lets it end within the target's limit, and no other one starts. Not for an extension.",
    )


class Comment(_In):
    """What is said along with a decision."""

    comment: str | None = None


class Why(_In):
    """The reason for ending something."""

    reason: str


class MaybeWhy(_In):
    """The reason, where there is one to give."""

    reason: str | None = None


class NewLock(_In):
    """What is to be locked: what fits each name that is given. Without any, `everything` has to say so.

    For `duration_s` seconds, or `until` a time, or until it is lifted.
    """

    person: str | None = None
    target: str | None = None
    profile: str | None = None
    proxy: str | None = None
    everything: StrictBool = False
    reason: str = Field(description="Why. Whoever is kept out is told.")
    duration_s: Whole | None = None
    until: When | None = None

    def draft(self) -> locks.Draft:
        """As the rules want it."""
        return locks.Draft(
            scope=locks.Scope(person=self.person, target=self.target, profile=self.profile, proxy=self.proxy),
            everything=self.everything,
            reason=self.reason,
            duration_s=self.duration_s,
            until=None if self.until is None else (self.until - EPOCH) // MICROSECOND * 1_000,
        )


class NewJoinToken(_In):
    """With `proxy`, only the proxy of this name can use the token, and it may replace its key with it."""

    proxy: str | None = None


class Rotation(_In):
    """Whether the keys until now are compromised: then they, and all tokens signed by them, are gone at once."""

    compromised: StrictBool = False


class PersonOut(_Out):
    """Somebody who uses Curfew."""

    name: str
    full_name: str
    roles: Annotated[list[Role], BeforeValidator(sorted)]
    disabled: Annotated[bool, Field(validation_alias="disabled_at"), BeforeValidator(_is_set)]
    created_at: Time


class AddedPerson(PersonOut):
    """A new person, with the API key that is shown this once."""

    api_key: str


class ApiKeyOut(_Out):
    """A new API key, shown this once."""

    id: str
    api_key: str


class RequestOut(_Out):
    """A request as it stands. With `extends` it is for more time on that grant, and not for another one."""

    id: str
    person: str
    target: str
    profile: str
    databases: list[str]
    duration_s: int
    reason: str
    max_sessions: int | None
    addresses: list[str]
    certificate: str | None
    end: EndMode = Field(description="What the person asked for; the grant says what the approver picked.")
    extends: str | None
    state: requests.State
    created_at: Time
    decided_at: Time | None
    decided_by: str | None
    comment: str | None
    grant: str | None


class ExtensionOut(_Out):
    """An approved extension of a grant: by whom, when, why, and the end from then on."""

    request: str
    by: str
    at: Time
    duration_s: int
    reason: str
    expires_at: Time


class GrantOut(_Out):
    """A grant as it stands. `expires_at` is the end that its extensions have led to."""

    id: str
    request: str
    person: str
    target: str
    profile: str
    databases: list[str]
    starts_at: Time
    expires_at: Time
    state: grants.State
    approved_by: str
    reason: str
    max_sessions: int | None
    addresses: list[str]
    certificate: str | None
    end: EndMode
    extensions: list[ExtensionOut]
    revoked_at: Time | None
    revoked_by: str | None
    revoke_reason: str | None

    @classmethod
    def of(cls, told: Told, now: int) -> "GrantOut":
        """The grant as it stands at `now`."""
        return cls.model_validate(asdict(told.grant) | {"state": told.grant.state(now), "extensions": told.extensions})


class LockOut(_Out):
    """A lock as it stands. With none of the four names it covers everything."""

    id: str
    person: str | None
    target: str | None
    profile: str | None
    proxy: str | None
    state: locks.State
    reason: str
    created_at: Time
    created_by: str
    until: Time | None
    lifted_at: Time | None
    lifted_by: str | None
    lift_reason: str | None

    @classmethod
    def of(cls, lock: locks.Lock, now: int) -> "LockOut":
        """The lock as it stands at `now`."""
        return cls.model_validate(_lock_members(lock, now))


class LockMade(LockOut):
    """A new lock, the open sessions that it ends as far as is known, and which of its names nobody has."""

    sessions: int
    warnings: list[str]

    @classmethod
    def made(cls, lock: locks.Lock, now: int, *, sessions: int, warnings: Iterable[str]) -> "LockMade":
        """The lock as it stands at `now`."""
        return cls.model_validate(_lock_members(lock, now) | {"sessions": sessions, "warnings": list(warnings)})


def _lock_members(lock: locks.Lock, now: int) -> dict[str, object]:
    return asdict(lock) | asdict(lock.scope) | {"state": lock.state(now)}


class TokenOut(_Out):
    """A grant's token, and what to connect with."""

    token: str
    grant: str
    expires_at: Time
    user: str
    dbname: str
    host: str
    port: int


class SessionOut(_Out):
    """A session's summary.

    `stop_s` is from the decision to end it (`decided_at`) to its backend being gone (`gone_at`), 0 at least. `gone_at`
    is by the proxy's clock and so is `decided_at`, but where control decided (revoked, killed, locked) that is by
    control's: what the clocks differ is in `stop_s` then.
    """

    id: str
    person: str | None
    grant: str | None
    target: str | None
    database: str
    profile: str | None
    proxy: str
    address: str | None
    application_name: str | None
    state: sessions.State
    started_at: Time
    expires_at: Time | None = Field(description="When its access ends, as the proxy knows.")
    ended_at: Time | None
    end_reason: str | None
    ended_by: str | None
    decided_at: Time | None
    gone_at: Time | None
    outcome: str | None
    running: int | None = Field(description="The number of the statement that runs.")
    running_since: Time | None
    running_command: str | None = Field(description="Its first word, where that is one of SQL's commands.")
    statements: int
    bytes_in: int
    bytes_out: int
    records: int
    reaped_by: str | None = Field(description="The proxy that has ended its backend, where its own was gone.")
    reaped_in: str | None = Field(description="The id under which that is on record.")
    stop_s: Annotated[float | None, Field(validation_alias="stop_ns"), BeforeValidator(_seconds)]
    faults: int


class ProfileOut(_Out):
    """A way in to a target."""

    name: str
    description: str


class TargetOut(_Out):
    """What access can be asked for. Where it is and how the proxy logs in there is nobody's business here."""

    name: str
    description: str
    database: str
    databases: list[str]
    profiles: list[ProfileOut]


class KeyOut(_Out):
    """A signing key's public side."""

    kid: str
    state: keyring.State
    created_at: Time
    active_from: Time
    signed_until: Time | None


class ProxyOut(_Out):
    """A proxy that has joined. `public_keys` prove its records, the one in force first."""

    name: str
    public_key: str
    public_keys: list[str]
    joined_at: Time
    last_seen_at: Time
    connected: bool
    silent_since: Time | None = Field(description="When it was last heard, where that is longer ago than its lease.")
    open_sessions: int
    reaping: int = Field(description="Its sessions that other proxies are told to end, until they have.")


class ReapOut(_Out):
    """A proxy that others are told to end the sessions of."""

    proxy: str
    sessions: int


class JoinTokenOut(_Out):
    """A join token, shown this once."""

    join_token: str
    expires_at: Time


class FaultOut(_Out):
    """A line that a proxy sent and that is not what it should be."""

    at: Time
    proxy: str
    session: str
    seq: str
    kind: str
    detail: str
