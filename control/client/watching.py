"""The commands about sessions: `sessions`, `kill`, `replay`."""

import sys
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from control.client import ends, naming, playback, rerun, screen
from control.client.account import Json
from control.client.answers import Session, read
from control.client.api import PAGE, from_environment, segment
from control.client.asking import INTERRUPTED, Limit
from control.client.ends import WITHIN, Wait, Within
from control.client.playback import Timeline
from control.client.times import local_now, parse_time, show_time
from control.durations import show_duration

SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session, or the beginning of its id.")]

Against = Annotated[
    str | None,
    typer.Option(
        metavar="DSN",
        help="Run the sessions again, in this database: postgresql://..., or postgresql:// and PGHOST, PGPASSWORD ...",
    ),
]
GrantOf = Annotated[
    str | None, typer.Option("--grant", metavar="GRANT", help="With --against: all sessions on this grant.")
]
ProxyKey = Annotated[
    list[str] | None,
    typer.Option("--proxy-key", metavar="KEY", help="With --against: the proxy's public key, or a file with it."),
]
SkipUnknown = Annotated[
    bool, typer.Option("--skip-unknown", help="With --against: leave out what is not all on record.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --against: show what would be run, and run nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="With --against: do not ask.")]
Force = Annotated[
    bool, typer.Option("--force", help="With --against: also where it may be the sessions' own database.")
]


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
    if json:
        screen.dump_page(page)
        return
    now = local_now()
    rows = [
        (
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
        )
        for one in read(list[Session], page.items)
    ]
    columns = ("ID", "STATE", "PERSON", "DATABASE", "PROFILE", "FROM", "STARTED", "ENDS", "STATEMENTS", "WHAT")
    screen.table(columns, rows, empty="no sessions")
    screen.more(page)


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


def replay(
    *,
    sessions_named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SESSION...", help="The session, or the beginning of its id. With --against: several, or a file."
        ),
    ] = None,
    speed: Annotated[float | None, typer.Option(min=0.01, max=1_000_000, help="Times as fast.")] = None,
    instant: Annotated[
        bool, typer.Option("--instant", help="All at once (the default where stdout is no terminal).")
    ] = False,
    max_gap: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Wait at most this long between two steps.")
    ] = None,
    json: Json = False,
    against: Against = None,
    grant: GrantOf = None,
    proxy_key: ProxyKey = None,
    skip_unknown: SkipUnknown = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Show what happened in a session, in its original timing; or, with --against, run it again in a database."""
    if against is not None:
        options = rerun.Options(
            against=against,
            grant=grant,
            proxy_keys=proxy_key or [],
            skip_unknown=skip_unknown,
            dry_run=dry_run,
            yes=yes,
            force=force,
            json=json,
        )
        rerun.rerun(sessions_named or [], options)
        return
    if instant and speed is not None:
        raise typer.BadParameter("--speed and --instant exclude each other")
    if len(sessions_named or []) != 1 or grant or proxy_key or skip_unknown or dry_run or yes or force:
        raise typer.BadParameter("one SESSION is shown; several, and further options, are for --against")
    with from_environment() as api:
        found = read(Session, naming.find(api, "sessions", (sessions_named or [""])[0]))
        answer = api.get(f"/v1/sessions/{segment(found.id)}/timeline")
    if json:
        screen.dump(answer)
        return
    timeline = read(Timeline, answer)
    timed = not instant and (speed is not None or max_gap is not None or sys.stdout.isatty())
    _head(timeline.session)
    play = playback.moments(playback.steps(timeline), speed=speed or 1.0, max_gap_s=max_gap if timed else 0.0)
    try:
        playback.play(play, screen.console())
    except KeyboardInterrupt:
        screen.note("stopped")
        raise typer.Exit(INTERRUPTED) from None
    if not timeline.session.ended_at:
        screen.note("the session is still open: this is what there is so far")


def _head(one: Session) -> None:
    client = f", {one.application_name}" if one.application_name else ""
    who = (
        f"{one.person} on {ends.place(one)} as {one.profile}"
        if one.person
        else f"a refused connection to {ends.place(one)}"
    )
    grant = f"grant {one.grant}" if one.grant else "no grant"
    screen.say(f"session {one.id}: {who}")
    screen.say(f"{grant}, from {one.address or 'a unix socket'}{client}, through proxy {one.proxy}")
    screen.say(f"started {show_time(one.started_at, now=local_now())}")


def _doing(one: Session, now: datetime) -> str:
    """What runs in an open session: the command, never what it says, and for how long."""
    if not one.running_since:
        return "idle"
    long = max(0.0, (now - parse_time(one.running_since)).total_seconds())
    return f"{one.running_command or 'a statement'} for {show_duration(long)}"
