"""People, their roles, and what a role lets them do."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What a person is to Curfew. A person may have several."""

    REQUESTER = "requester"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Right(enum.StrEnum):
    """One thing that a role lets a person do. One's own requests, grants and sessions need no right to be seen."""

    REQUEST = "request"
    DECIDE = "decide"
    """Approve and deny, but never one's own request (see `requests`)."""
    END_ACCESS = "end access"
    """Revoke any grant, kill any session, lock anything up to everything, and lift locks (see `locks`)."""
    SEE_REQUESTS = "see requests"
    """Everybody's requests and grants."""
    SEE_SESSIONS = "see sessions"
    """Everybody's sessions, without what was done in them: whoever may kill a session must be able to find it."""
    SEE_RECORDS = "see records"
    """Everybody's records and timelines."""
    ADMINISTER = "administer"
    """People, signing keys, proxies."""


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.REQUESTER: frozenset({Right.REQUEST}),
    Role.APPROVER: frozenset({Right.DECIDE, Right.END_ACCESS, Right.SEE_REQUESTS, Right.SEE_SESSIONS}),
    Role.AUDITOR: frozenset({Right.SEE_SESSIONS, Right.SEE_RECORDS}),
    Role.ADMIN: frozenset(Right),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who uses Curfew. `name` is also their PostgreSQL user name at the proxy."""

    name: str
    full_name: str
    roles: frozenset[Role]
    created_at: int
    disabled_at: int | None = None

    def has(self, right: Right) -> bool:
        """Whether one of the person's roles gives `right`. Somebody disabled has none."""
        return self.disabled_at is None and any(right in RIGHTS[role] for role in self.roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A person's API key: its secret is known to them alone, control keeps its SHA-256."""

    id: str
    person: str
    digest: str
    created_at: int
    revoked_at: int | None = None
