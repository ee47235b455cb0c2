"""The command `replay`: a session as it was, or as it is now; or, with `--against`, run again in a database.

Owns the options. What is shown is `control.client.playback`'s and `reels`', what is run `control.client.rerun`'s.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

import typer

from control.client import ends, following, naming, playback, reels, rerun, screen
from control.client.account import Json
from control.client.answers import Session, read
from control.client.api import Api, from_environment
from control.client.asking import INTERRUPTED
from control.client.playback import Item
from control.client.times import local_now, show_time

Sessions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SESSION...", help="The session, or the beginning of its id. With --against: several, or a file."
    ),
]
Speed = Annotated[float | None, typer.Option(min=0.01, max=1_000_000, help="Times as fast.")]
Instant = Annotated[bool, typer.Option("--instant", help="All at once (the default where stdout is no terminal).")]
MaxGap = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Wait at most this long between two steps.")
]
At = Annotated[
    str | None,
    typer.Option(metavar="PLACE", help="Begin there: 1:30.5, 90s, statement:7, error (the first one), error:2."),
]
Errors = Annotated[bool, typer.Option("--errors", help="Only what failed.")]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Show what has happened, then what happens, until the session ends.")
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


def replay(
    *,
    sessions_named: Sessions = None,
    speed: Speed = None,
    instant: Instant = False,
    max_gap: MaxGap = None,
    at: At = None,
    errors: Errors = False,
    follow: Follow = False,
    json: Json = False,
    against: Against = None,
    grant: GrantOf = None,
    proxy_key: ProxyKey = None,
    skip_unknown: SkipUnknown = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Show what happened in a session, in what transactions; or what happens in it now; or run it again (--against)."""
    timed = speed is not None or max_gap is not None
    if against is not None:
        if timed or instant or at is not None or errors or follow:
            raise typer.BadParameter("--against shows nothing: leave out what says how a session is shown")
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
    if len(sessions_named or []) != 1 or grant or proxy_key or skip_unknown or dry_run or yes or force:
        raise typer.BadParameter("one SESSION is shown; several, and further options, are for --against")
    if instant and speed is not None:
        raise typer.BadParameter("--speed and --instant exclude each other")
    if follow and timed:
        raise typer.BadParameter("--follow knows no other time than the session's: leave out --speed and --max-gap")
    if json and (at is not None or errors):
        raise typer.BadParameter("--json is the whole timeline: leave out --at and --errors")
    waits = not instant and (timed or sys.stdout.isatty())
    pace = Pace(speed=speed or 1.0, max_gap_s=max_gap if waits else 0.0)
    _show((sessions_named or [""])[0], _cut(at, errors=errors), pace, follow=follow, json=json)


def _cut(at: str | None, *, errors: bool) -> "Cut":
    try:
        return Cut(at=None if at is None else reels.place(at), errors=errors)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _show(session: str, cut: "Cut", pace: "Pace", *, follow: bool, json: bool) -> None:
    try:
        with from_environment() as api:
            found = read(Session, naming.find(api, "sessions", session))
            if follow:
                _follow(api, found.id, cut, json=json)
                return
            with reels.fetched(api, found.id) as lines:
                _replay(lines, cut, pace, json=json)
    except KeyboardInterrupt:
        screen.note("stopped")
        raise typer.Exit(INTERRUPTED) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast it is shown."""

    speed: float
    max_gap_s: float | None


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


def _replay(lines: Iterator[bytes], cut: Cut, pace: Pace, *, json: bool) -> None:
    sent, session = reels.head(lines)
    if json:
        reels.dump(sent, lines)
        return
    _head(session)
    steps = playback.steps(cut.of(reels.items(lines)))
    play = playback.moments(
        steps, speed=pace.speed, max_gap_s=pace.max_gap_s, from_first=cut.at is not None or cut.errors
    )
    playback.play(play, screen.console())
    if not session.ended_at:
        screen.note("the session is still open: this is what there is so far; --follow goes on")


def _follow(api: Api, session_id: str, cut: Cut, *, json: bool) -> None:
    """As `tail -f`, but that it ends with the session, and outlasts a service that restarts."""
    with closing(following.followed(api, session_id)) as lines:
        if json:
            for _ in reels.dump_lines(lines):
                pass
            return
        _, session = reels.head(lines)
        _head(session)
        console = screen.console()
        for step in playback.steps(cut.of(reels.items(lines)), live=True, ended_only=cut.errors):
            playback.show(step, console)


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
