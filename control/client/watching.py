"""The commands about sessions: `sessions`, `kill`, `replay`."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from control.client import ends, naming, playback, reels, rerun, screen
from control.client.account import Json
from control.client.answers import Session, read
from control.client.api import PAGE, Api, from_environment, segment
from control.client.asking import INTERRUPTED, Limit
from control.client.ends import WITHIN, Wait, Within
from control.client.errors import ClientError
from control.client.playback import Item
from control.client.times import local_now, parse_time, show_time
from control.durations import show_duration

SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session, or the beginning of its id.")]

Named = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SESSION...", help="The session, or the beginning of its id. With --against: several, or files."
    ),
]
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
    named: Named = None,
    speed: Annotated[float | None, typer.Option(min=0.01, max=1_000_000, help="Times as fast.")] = None,
    instant: Annotated[
        bool, typer.Option("--instant", help="All at once (the default where stdout is no terminal).")
    ] = False,
    max_gap: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Wait at most this long between two steps.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Begin there: 1:30.5, 90s, statement:7, error (the first one), error:2."),
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only what failed.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what has happened, then what happens, until the session ends.")
    ] = False,
    json: Json = False,
    against: Against = None,
    grant: GrantOf = None,
    proxy_key: ProxyKey = None,
    skip_unknown: SkipUnknown = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Show what happened in a session, in its original timing, and in what transactions; or what happens in it now.

    With --against, run it again in a database, and say where that goes another way.
    """
    if against is not None:
        keys = proxy_key or []
        wanted = rerun.Options(against=against, grant=grant, proxy_keys=keys, skip_unknown=skip_unknown, json=json)
        rerun.rerun(named or [], msgspec.structs.replace(wanted, dry_run=dry_run, yes=yes, force=force))
        return
    session_id = _only(named or [], further=any((grant, proxy_key, skip_unknown, dry_run, yes, force)))
    if instant and speed is not None:
        raise typer.BadParameter("--speed and --instant exclude each other")
    if follow and (speed is not None or max_gap is not None):
        raise typer.BadParameter("--follow knows no other time than the session's: leave out --speed and --max-gap")
    if json and (at is not None or errors):
        raise typer.BadParameter("--json is the whole timeline: leave out --at and --errors")
    try:
        cut = Cut(at=None if at is None else reels.place(at), errors=errors)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    timed = not instant and (speed is not None or max_gap is not None or sys.stdout.isatty())
    try:
        with from_environment() as api:
            found = read(Session, naming.find(api, "sessions", session_id))
            if follow:
                _follow(api, found.id, cut, json=json)
                return
            with reels.fetched(api, found.id) as lines:
                _replay(lines, cut, speed=speed or 1.0, max_gap_s=max_gap if timed else 0.0, json=json)
    except KeyboardInterrupt:
        screen.note("stopped")
        raise typer.Exit(INTERRUPTED) from None


def _only(named: Sequence[str], *, further: bool) -> str:
    """The one session that is shown."""
    if len(named) != 1 or further:
        raise typer.BadParameter("one SESSION is shown; several, and further options, are for --against")
    return named[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Which part of a session is wanted."""

    at: Callable[[Item], bool] | None
    errors: bool

    def of(self, items: Iterable[Item]) -> Iterator[Item]:
        """That part of `items`."""
        if self.at is not None:
            items = reels.behind(self.at, items)
        return (item for item in items if playback.failed(item) or not self.errors)


def _replay(lines: Iterator[bytes], cut: Cut, *, speed: float, max_gap_s: float | None, json: bool) -> None:
    sent, session = reels.head(lines)
    if json:
        reels.dump(sent, lines)
        return
    _head(session)
    steps = playback.steps(cut.of(reels.items(lines)))
    play = playback.moments(steps, speed=speed, max_gap_s=max_gap_s, from_first=cut.at is not None or cut.errors)
    playback.play(play, screen.console())
    if not session.ended_at:
        screen.note("the session is still open: this is what there is so far; --follow goes on")


def _follow(api: Api, session_id: str, cut: Cut, *, json: bool) -> None:
    """As `tail -f`, but that it ends with the session."""
    lines = reels.followed(api, session_id)
    over = False

    def seen(items: Iterable[Item]) -> Iterator[Item]:
        nonlocal over
        for item in items:
            over = over or item.kind in reels.LAST
            yield item

    with closing(lines):
        if json:
            shown = reels.dump_lines(lines)
            next(shown, None)  # the session
            for _ in seen(reels.items(shown)):
                pass
        else:
            _, session = reels.head(lines)
            _head(session)
            console = screen.console()
            for step in playback.steps(cut.of(seen(reels.items(lines))), live=True, ended_only=cut.errors):
                playback.show(step, console)
    if not over:
        raise ClientError("the stream has ended, and the session has not", hint="try again: the service may be back")


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
