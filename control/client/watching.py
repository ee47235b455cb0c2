"""The commands about sessions as a whole: `sessions`, `kill`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from control.client import ends, listing, naming, screen
from control.client.account import Json
from control.client.answers import Session, read
from control.client.api import PAGE, from_environment, segment
from control.client.asking import Limit
from control.client.ends import WITHIN, Wait, Within
from control.client.times import local_now, parse_time, show_time
from control.durations import show_duration

SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session, or the beginning of its id.")]


class SessionState(StrEnum):
    """A session's states."""

    OPEN = "open"
    ENDED = "ended"
    REFUSED = "refused"
    """A connection that was not admitted."""


def sessions(
    *,
    state: Annotated[SessionState | None, typer.Option(help="Only those in this state.")] = None,
    person: Annotated[str | None, typer.Option(help="Only this person's.")] = None,
    target: Annotated[str | None, typer.Option(help="Only on this target.")] = None,
    profile: Annotated[str | None, typer.Option(help="Only with this access profile.")] = None,
    proxy: Annotated[str | None, typer.Option(help="Only through this proxy.")] = None,
    grant: Annotated[str | None, typer.Option(help="Only on this grant.")] = None,
    json: Json = False,
    limit: Limit = PAGE,
) -> None:
    """List sessions: yours, or everybody's if you approve or audit. `--state open` shows what runs now."""
    query = {"state": state, "person": person, "target": target, "profile": profile, "proxy": proxy, "grant": grant}
    with from_environment() as api:
        page = api.page("/v1/sessions", limit=limit, **query)
    now = local_now()
    columns = ("ID", "STATE", "PERSON", "DATABASE", "PROFILE", "FROM", "STARTED", "ENDS", "STATEMENTS", "WHAT")
    listing.show(
        page,
        Session,
        columns,
        lambda one: (
            one.id,
            one.state or ("ended" if one.ended_at else "open"),
            one.person,
            ends.place(one),
            one.profile,
            one.address,
            show_time(one.started_at, now=now),
            show_time(one.ended_at or one.expires_at, now=now),
            "-" if one.statements is None else str(one.statements),
            ends.ending(one) if one.ended_at else _doing(one, now),
        ),
        json=json,
        empty="no sessions",
    )


def kill(
    *,
    session_id: SessionId,
    reason: Annotated[str, typer.Option(help="Why.")] = "ended from the command line",
    wait: Wait = True,
    within: Within = WITHIN,  # type: ignore[assignment] # Typer parses a default as it does input
) -> None:
    """End a running session now, not its grant; wait for the proof, and print it."""
    with from_environment() as api:
        found = read(Session, naming.find(api, "sessions", session_id))
        api.post(f"/v1/sessions/{segment(found.id)}/kill", {"reason": reason})
        screen.say(f"ordered the end of {found.id}: {found.person} on {ends.place(found)}")
        if wait:
            ends.prove(api, [found], within)
    if not wait:
        screen.note("`curfew sessions` shows when it is gone")


def _doing(one: Session, now: datetime) -> str:
    """What runs in an open session: the command, never what it says, and for how long."""
    if not one.running_since:
        return "idle"
    long = max(0.0, (now - parse_time(one.running_since)).total_seconds())
    return f"{one.running_command or 'a statement'} for {show_duration(long)}"
