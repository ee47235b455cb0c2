"""The commands about locks: `lock`, `locks`, `unlock`."""

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from control.client import ends, listing, naming, screen
from control.client.account import Json
from control.client.answers import Lock, read
from control.client.api import PAGE, Api, from_environment, segment
from control.client.asking import Duration, Limit
from control.client.ends import WITHIN, Wait, Within
from control.client.errors import ClientError
from control.client.times import local_now, show_time

EVERYTHING = "everything"
LockId = Annotated[str, typer.Argument(metavar="LOCK", help="The lock, or the beginning of its id.")]


class LockState(StrEnum):
    """A lock's states."""

    ACTIVE = "active"
    EXPIRED = "expired"
    LIFTED = "lifted"


def lock(
    *,
    reason: Annotated[str, typer.Option(help="Why. Whoever is kept out is told.")],
    person: Annotated[str | None, typer.Option(help="This person.")] = None,
    target: Annotated[str | None, typer.Option(help="This target.")] = None,
    profile: Annotated[str | None, typer.Option(help="This access profile.")] = None,
    proxy: Annotated[str | None, typer.Option(help="What goes through this proxy.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Everybody, everywhere.")] = False,
    duration: Duration = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before everything is locked.")] = False,
    wait: Wait = True,
    within: Within = WITHIN,  # type: ignore[assignment] # Typer parses a default as it does input
) -> None:
    """Stop access at once: end what fits every name that is given, and let none of it start, until it is unlocked."""
    given = {"person": person, "target": target, "profile": profile, "proxy": proxy}
    names = {what: name for what, name in given.items() if name is not None}
    if everything == bool(names):
        raise typer.BadParameter("name a --person, --target, --profile or --proxy (or several), or say --everything")
    body: dict[str, Any] = names | {"reason": reason}
    body |= {"everything": True} if everything else {}
    body |= {"duration_s": duration} if duration is not None else {}
    with from_environment() as api:
        if everything and not yes:
            _ask(api)
        before = ends.open_sessions(api, **names) if wait else []
        made = read(Lock, api.post("/v1/locks", body))
        for warning in made.warnings:
            screen.note(f"WARNING: {warning}")
        screen.say(f"locked {_scope(made)}, {_until(made)}: {made.id}")
        screen.note(f"`curfew unlock {made.id}` lifts it")
        if wait:
            ends.prove(api, before, within, again=lambda: ends.open_sessions(api, **names))
    if not wait:
        screen.say(f"{made.sessions or 0} sessions were open; `curfew sessions --state open` shows what is left")


def locks(
    *,
    state: Annotated[LockState | None, typer.Option(help="Only those in this state (default: active).")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those that are over too.")] = False,
    json: Json = False,
    limit: Limit = PAGE,
) -> None:
    """List the locks in force: those that may keep you out, or all of them if you approve or audit."""
    if every and state is not None:
        raise typer.BadParameter("--all and --state exclude each other")
    wanted = None if every else (state or LockState.ACTIVE).value
    with from_environment() as api:
        page = api.page("/v1/locks", limit=limit, state=wanted)
    now = local_now()
    columns = ("ID", "STATE", "LOCKED", "UNTIL", "BY", "MADE", "REASON")
    listing.show(
        page,
        Lock,
        columns,
        lambda one: (
            one.id,
            one.state,
            _scope(one),
            show_time(one.until, now=now) or "unlocked",
            one.created_by,
            show_time(one.created_at, now=now),
            one.reason + _lifting(one),
        ),
        json=json,
        empty=f"no {wanted} locks" if wanted else "no locks",
    )


def unlock(
    *, lock_id: LockId, reason: Annotated[str | None, typer.Option(help="Why, if there is something to say.")] = None
) -> None:
    """Lift a lock: what it covered may start again."""
    with from_environment() as api:
        found = read(Lock, naming.find(api, "locks", lock_id))
        body = {} if reason is None else {"reason": reason}
        done = read(Lock, api.post(f"/v1/locks/{segment(found.id)}/lift", body))
    screen.say(f"unlocked {_scope(done)}: {done.id}")


def _ask(api: Api) -> None:
    """Have the person type it: this is not to happen by a slip. Raises ClientError where they do not."""
    if not sys.stdin.isatty():
        raise ClientError(
            "nothing was locked: --everything asks first, and nobody is there to answer", hint="add --yes"
        )
    count = len(ends.open_sessions(api))
    screen.note(f"This ends every session ({count} open) and keeps everybody out of every target.")
    screen.prompt(f"Type {EVERYTHING!r} to go on: ")
    if sys.stdin.readline().strip() != EVERYTHING:
        raise ClientError("nothing was locked")


def _scope(one: Lock) -> str:
    names = {"person": one.person, "target": one.target, "profile": one.profile, "proxy": one.proxy}
    return ", ".join(f"{what} {name}" for what, name in names.items() if name is not None) or EVERYTHING


def _until(one: Lock) -> str:
    return "until it is unlocked" if one.until is None else f"until {show_time(one.until, now=local_now())}"


def _lifting(one: Lock) -> str:
    if one.lifted_by is None:
        return ""
    return f" (lifted by {one.lifted_by}{f': {one.lift_reason}' if one.lift_reason else ''})"
