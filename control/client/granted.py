"""The commands about grants: `grants`, `revoke`, `token`."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from control.client import credentials, ends, listing, naming, screen, waiting
from control.client.account import Json, rootcert
from control.client.answers import Grant, Request, Target, Token, read
from control.client.api import PAGE, Api, from_environment, segment
from control.client.asking import Limit, seconds, summary, wait_for
from control.client.config import current
from control.client.credentials import Format
from control.client.ends import WITHIN, Wait, Within
from control.client.times import local_now, show_time
from control.durations import show_duration

TARGETS = 10_000
GrantId = Annotated[str, typer.Argument(metavar="GRANT", help="The grant, or the beginning of its id.")]
RootCert = Annotated[
    str | None,
    typer.Option(help="The authority that signed the proxy's certificate, or `system`; default: from the login."),
]
Database = Annotated[str | None, typer.Option("--database", "-d", help="A database of the target.")]


class GrantState(StrEnum):
    """A grant's states."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


def grants(
    *,
    state: Annotated[GrantState | None, typer.Option(help="Only those in this state.")] = None,
    person: Annotated[str | None, typer.Option(help="Only this person's.")] = None,
    json: Json = False,
    limit: Limit = PAGE,
) -> None:
    """List grants: yours, or everybody's if you approve."""
    with from_environment() as api:
        page = api.page("/v1/grants", limit=limit, state=state, person=person)
    now = local_now()
    columns = ("ID", "STATE", "PERSON", "TARGET", "PROFILE", "DATABASES", "ENDS", "HOW", "APPROVED BY", "REASON")
    listing.show(
        page,
        Grant,
        columns,
        lambda one: (
            one.id,
            one.state,
            one.person,
            one.target,
            one.profile,
            ", ".join(one.databases or ["*"]),
            show_time(one.expires_at, now=now) + _extensions(one),
            one.end or "hard",
            one.approved_by,
            f"revoked by {one.revoked_by}: {one.revoke_reason}" if one.revoked_by else one.reason,
        ),
        json=json,
        empty="no grants",
    )


def extend(
    *,
    grant_id: GrantId,
    duration: Annotated[
        int, typer.Option("--for", parser=seconds, metavar="DURATION", help="How much longer: 90s, 15m, 1h30m.")
    ],
    reason: Annotated[str, typer.Option(help="Why.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is decided.")] = False,
    json: Json = False,
) -> None:
    """Ask for more time on a grant of yours. Approved, its sessions go on without reconnecting."""
    with from_environment() as api:
        found = read(Grant, naming.find(api, "grants", grant_id))
        body = {"duration_s": duration, "reason": reason}
        answer = api.post(f"/v1/grants/{segment(found.id)}/extensions", body)
        made = read(Request, answer)
        if wait:
            made = wait_for(api, made, "`curfew grants` shows its end")
            answer = api.get(f"/v1/requests/{segment(made.id)}")
            found = read(Grant, api.get(f"/v1/grants/{segment(found.id)}"))
    if json:
        screen.dump(answer)
    if wait:
        waiting.approved(made)
        if not json:
            until = show_time(found.expires_at, now=local_now())
            screen.say(f"{made.id} is approved by {made.decided_by}: grant {found.id} ends {until}")
            screen.note(f"sessions on it go on; for new ones: curfew connect {found.target} --grant {found.id}")
    elif not json:
        screen.say(f"{made.id} is {made.state}: {summary(made)}")


def revoke(
    *,
    grant_id: GrantId,
    reason: Annotated[str, typer.Option(help="Why.")],
    wait: Wait = True,
    within: Within = WITHIN,  # type: ignore[assignment] # Typer parses a default as it does input
) -> None:
    """End a grant now, and every session on it; wait for the proof, and print it."""
    with from_environment() as api:
        found = read(Grant, naming.find(api, "grants", grant_id))
        before = ends.open_sessions(api, grant=found.id) if wait else []
        api.post(f"/v1/grants/{segment(found.id)}/revoke", {"reason": reason})
        screen.say(f"revoked {found.id}: {found.person} on {found.target} as {found.profile}")
        if wait:
            ends.prove(api, before, within, again=lambda: ends.open_sessions(api, grant=found.id))
    if not wait:
        screen.note(f"`curfew sessions --grant {found.id}` shows when its sessions are gone")


def token(
    *,
    grant_id: GrantId,
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.ENV,
    database: Database = None,
    sslrootcert: RootCert = None,
) -> None:
    """Print a grant's token for PostgreSQL's clients: the token is a password, keep it so."""
    with from_environment() as api:
        found = read(Grant, naming.find(api, "grants", grant_id))
        issued = issue(api, found)
        name = database_name(api, found, issued, database)
    screen.raw(credentials.write(issued, form, database=name, sslrootcert=authority(sslrootcert)))
    screen.note(f"good until {show_time(issued.expires_at, now=local_now()) or 'the end of the grant'}")


def issue(api: Api, grant: Grant) -> Token:
    """The grant's token."""
    return read(Token, api.post(f"/v1/grants/{segment(grant.id)}/token"))


def database_name(api: Api, grant: Grant, issued: Token, wanted: str | None) -> str:
    """What the client has to call the database: the target's name alone means its default one (DESIGN.md 4.2).

    Where the grant does not cover the default database, the first one that it covers is meant.
    """
    if wanted:
        return f"{issued.dbname}/{wanted}"
    databases = grant.databases or ["*"]
    if databases == ["*"]:
        return issued.dbname
    known = read(list[Target], api.page("/v1/targets", limit=TARGETS).items)
    default = next((one.database for one in known if one.name == grant.target), None)
    return issued.dbname if default in databases else f"{issued.dbname}/{databases[0]}"


def authority(given: str | None) -> str | None:
    """The `sslrootcert` to use: as given, or as stored at login."""
    return rootcert(given) or current(os.environ).sslrootcert


def _extensions(one: Grant) -> str:
    """How the grant's end has moved."""
    return "".join(f" +{show_duration(more.duration_s)} by {more.by or 'somebody'}" for more in one.extensions)
