"""The commands about sessions: `sessions`, `kill`, `replay`, `verify`."""

import sys
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from control.client import checking, ends, naming, playback, screen
from control.client.account import Json
from control.client.answers import Proxy, Session, read
from control.client.api import PAGE, Api, from_environment, segment
from control.client.asking import INTERRUPTED, Limit
from control.client.ends import WITHIN, Wait, Within
from control.client.errors import AnsweredError, ClientError
from control.client.playback import Timeline
from control.client.times import local_now, parse_time, show_duration, show_time

FAILED = 1
PROXIES = 10_000
GIVE_KEY = "ask an administrator for the proxy's key, and give it with --public-key"
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
    session_id: SessionId,
    speed: Annotated[float | None, typer.Option(min=0.01, max=1_000_000, help="Times as fast.")] = None,
    instant: Annotated[
        bool, typer.Option("--instant", help="All at once (the default where stdout is no terminal).")
    ] = False,
    max_gap: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Wait at most this long between two steps.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what happened in a session, in its original timing."""
    if instant and speed is not None:
        raise typer.BadParameter("--speed and --instant exclude each other")
    with from_environment() as api:
        found = read(Session, naming.find(api, "sessions", session_id))
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


def verify(
    *,
    session: Annotated[
        str, typer.Argument(metavar="SESSION|FILE", help="A session, or a file of its records (NDJSON).")
    ],
    public_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The proxy's public key, or a file with it; default: from the service."),
    ] = None,
) -> None:
    """Check that a session's records are what the proxy wrote: all of them, in order, unchanged, signed."""
    path = Path(session)
    checked = _verify_file(path, public_key) if path.is_file() else [_verify_session(session, public_key)]
    for one in checked:
        _report(one)
    if any(one.fault for one in checked):
        raise typer.Exit(FAILED)


def _verify_file(path: Path, public_key: str | None) -> list[checking.Checked]:
    keys = [checking.public_key(public_key)] if public_key else []
    try:
        with path.open("rb") as file:
            found = checking.by_session(file)
    except OSError as error:
        raise ClientError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        raise ClientError(f"{path} holds no records")
    return [checking.check(lines, keys, session=name) for name, lines in found.items()]


def _verify_session(text: str, public_key: str | None) -> checking.Checked:
    with from_environment() as api:
        found = read(Session, naming.find(api, "sessions", text))
        keys = [public_key] if public_key else _proxy_keys(api, found)
        checked = checking.check(_records(api, found.id), [checking.public_key(key) for key in keys], session=found.id)
    if found.faults:
        screen.note(f"the service has noted {_count(found.faults, 'fault')} in what was sent to it for this session")
    if not public_key:
        screen.note("whose key it is, is the service's word; --public-key KEY makes the check independent of it")
    return checked


def _proxy_keys(api: Api, session: Session) -> list[str]:
    try:
        known = read(list[Proxy], api.page("/v1/proxies", limit=PROXIES).items)
    except AnsweredError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        raise ClientError("the service does not show you its proxies' public keys", hint=GIVE_KEY) from error
    keys = [key for one in known if one.name == session.proxy for key in one.public_keys or [one.public_key]]
    if not keys:
        raise ClientError(f"the service has no key of proxy {session.proxy}", hint=GIVE_KEY)
    return keys


def _records(api: Api, session: str) -> Iterator[bytes]:
    yield from api.lines(f"/v1/sessions/{segment(session)}/records")


def _report(one: checking.Checked) -> None:
    counts = f"{_count(one.records, 'record')}, {_count(one.statements, 'statement')}"
    if one.fault is not None:
        where = f"record {one.seq}" if one.seq is not None else "its records"
        screen.say(f"BAD: session {one.session}, {where}: {one.fault} (before it: {counts})")
        return
    whole = "a refused connection" if one.refused else f"{counts}, chain whole"
    signed = {
        "good": f"signed by {f'proxy {one.proxy}' if one.proxy else 'its proxy'}",
        "not checked": "signature NOT checked (give --public-key)",
    }
    screen.say(f"ok: session {one.session}: {whole}, {signed[one.signature]}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
