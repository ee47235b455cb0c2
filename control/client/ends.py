"""How sessions' ends are told and waited for: the proof behind `revoke`, `kill` and `lock`.

The order is given before anything here is done, and stands whatever happens here: what is waited for is the proxies'
word, in the sessions' last records, that the backends are gone.
"""

import time
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from control.client import screen
from control.client.answers import Session, read
from control.client.api import Api, segment
from control.client.asking import INTERRUPTED, seconds
from control.client.errors import ClientError
from control.durations import show_duration

FAILED = 1
MOST = 10_000
POLL_S = 30.0
"""The service lets one wait for at most a minute."""
WITHIN = "15s"
PAUSE_S = 0.2
"""Between two rounds that were answered at once."""
STANDS = (
    "the order stands, and proxies carry it out as they hear of it; `curfew sessions --state open` shows what is left"
)


Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the sessions are proven to have ended.")]
Within = Annotated[int, typer.Option("--within", parser=seconds, metavar="DURATION", help="How long to wait for it.")]


def open_sessions(api: Api, **query: str | None) -> list[Session]:
    """The open sessions that fit."""
    return read(list[Session], api.page("/v1/sessions", limit=MOST, state="open", **query).items)


def prove(
    api: Api,
    before: Sequence[Session],
    within_s: float,
    *,
    again: Callable[[], Sequence[Session]] = tuple,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tell the end of each session that was open `before`, or is when asked `again`, as soon as it is proven.

    Ends the command with FAILED where that takes longer than `within_s`.
    """
    began = clock()
    pending, ended = {one.id: one for one in before}, dict[str, Session]()
    try:
        while (round_ := clock()) - began < within_s:
            for one in list(pending.values()):
                now = _once_ended(api, one, min(POLL_S, within_s - (clock() - began)))
                if now.ended_at:
                    screen.say(f"ended {now.id}: {now.person} on {place(now)}: {ending(now)}")
                    ended[now.id] = now
                    del pending[now.id]
            # What began before the proxy had heard of the order.
            pending |= {one.id: one for one in again() if one.id not in ended}
            if not pending:
                break
            sleep(max(0.0, PAUSE_S - (clock() - round_)))
    except KeyboardInterrupt:
        screen.note(f"stopped waiting; {STANDS}")
        raise typer.Exit(INTERRUPTED) from None
    except ClientError as error:
        unknown = f"the order was given, and whether it is carried out is not known: {error}"
        raise ClientError(unknown, hint=STANDS) from error
    _sum_up(list(ended.values()), list(pending.values()), clock() - began)


def _once_ended(api: Api, one: Session, wait_s: float) -> Session:
    wait_s = max(0.0, round(wait_s, 3))
    return read(Session, api.get(f"/v1/sessions/{segment(one.id)}", wait_s=wait_s, patience_s=wait_s))


def _sum_up(ended: Sequence[Session], left: Sequence[Session], took_s: float) -> None:
    took = show_duration(took_s)
    for one in left:
        screen.say(f"STILL OPEN {one.id}: {one.person} on {place(one)}, through proxy {one.proxy or 'unknown'}")
    if left:
        screen.note(f"{len(left)} of {len(left) + len(ended)} not proven to have ended after {took}")
        screen.note(f"  {STANDS}")
        raise typer.Exit(FAILED)
    if not ended:
        screen.say("no session was open")
        return
    stops = [one.stop_s for one in ended if one.stop_s is not None]
    slowest = f"; backends gone at most {show_duration(max(stops))} after the decision" if stops else ""
    screen.say(f"{len(ended)} session{'' if len(ended) == 1 else 's'} ended, proven after {took}{slowest}")


def place(one: Session) -> str:
    """Where a session is."""
    return "/".join(part for part in (one.target, one.database) if part)


def ending(one: Session) -> str:
    """How a session that has ended did so."""
    by = f" by {one.ended_by}" if one.ended_by else ""
    stop = f", gone in {show_duration(one.stop_s)}" if one.stop_s is not None else ""
    outcome = f", {one.outcome}" if one.outcome else ""
    return f"{one.end_reason or 'unknown'}{by}{outcome}{stop}"
