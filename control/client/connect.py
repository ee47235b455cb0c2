"""The command `connect`: a grant that is there, or a request and the wait for it; then psql in our place."""

import os
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from control.client import credentials, granted, naming, psql, screen, waiting
from control.client.answers import Grant, Me, Request, Target, read
from control.client.api import Api, from_environment, segment
from control.client.asking import Duration, ask, wait_for
from control.client.errors import ClientError
from control.client.granted import Database, RootCert
from control.client.times import local_now, parse_time, show_time
from proxy.contract.grant import EndMode

PSQL_ARGUMENTS = "curfew.psql"
MINE = 1_000


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the person said: the more is left open, the more may serve."""

    target: str
    profile: str | None = None
    database: str | None = None
    reason: str | None = None
    duration_s: int | None = None


def connect(
    *,
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="What to connect to; `curfew targets` lists them.")],
    profile: Annotated[str | None, typer.Argument(help="With which rights.")] = None,
    duration: Duration = None,
    reason: Annotated[str | None, typer.Option(help="Why, if a request has to be made.")] = None,
    grant: Annotated[str | None, typer.Option(metavar="ID", help="The grant to use.")] = None,
    database: Database = None,
    sslrootcert: RootCert = None,
) -> None:
    """Open psql on a target. Uses an active grant of yours, or asks for one and waits.

    What stands behind `--` goes to psql as it is: `curfew connect orders readonly -- -c 'select 1'`.
    """
    program, root = psql.find(os.environ), granted.authority(sslrootcert)
    wanted = Wanted(target=target, profile=profile, database=database, reason=reason, duration_s=duration)
    with from_environment() as api:
        chosen = _named(api, grant, target) if grant is not None else _mine(api, wanted) or _asked(api, wanted)
        issued = granted.issue(api, chosen)
        name = granted.database_name(api, chosen, issued, database)
    values = credentials.parameters(issued, database=name, sslrootcert=root)
    psql.check_authority(values, os.environ)
    until = show_time(issued.expires_at or chosen.expires_at, now=local_now())
    finish = "; what runs then may finish" if chosen.end == EndMode.FINISH else ""
    screen.note(f"{chosen.target} as {chosen.profile} on grant {chosen.id}, until {until}{finish}")
    psql.run(program, context.meta.get(PSQL_ARGUMENTS, []), psql.environment(os.environ, values))


def choose(candidates: list[Grant], wanted: Wanted, *, person: str, now: datetime) -> Grant | None:
    """The person's own active grant that covers what is wanted and ends last. Raises ClientError if profiles differ."""
    fitting = [
        one
        for one in candidates
        if one.state == "active"
        and _serves(one, wanted, person)
        and (one.expires_at is None or parse_time(one.expires_at) > now)
    ]
    profiles = sorted({one.profile for one in fitting})
    if len(profiles) > 1:
        raise ClientError(
            f"you have grants on {wanted.target} as {' and as '.join(profiles)}",
            hint=f"say which: curfew connect {wanted.target} PROFILE",
        )
    return max(fitting, key=lambda one: one.expires_at or "", default=None)


def _serves(one: Grant | Request, wanted: Wanted, person: str) -> bool:
    databases = one.databases or ["*"]
    return (
        one.person == person
        and one.target == wanted.target
        and wanted.profile in (None, one.profile)
        and (wanted.database is None or databases == ["*"] or wanted.database in databases)
    )


def _named(api: Api, grant_id: str, target: str) -> Grant:
    found = read(Grant, naming.find(api, "grants", grant_id))
    if found.target != target:
        raise ClientError(f"grant {found.id} is for {found.target}, not for {target}")
    if found.state != "active":
        again = f"curfew connect {target} {found.profile} --reason TEXT"
        raise ClientError(f"grant {found.id} is {found.state}", hint=f"ask anew: {again}")
    return found


def _mine(api: Api, wanted: Wanted) -> Grant | None:
    me = read(Me, api.get("/v1/me")).name
    listed = read(list[Grant], api.page("/v1/grants", limit=MINE, state="active", person=me).items)
    return choose(listed, wanted, person=me, now=local_now())


def _asked(api: Api, wanted: Wanted) -> Grant:
    """The grant of a new request, or of one that is pending already where nothing new is said."""
    target, profile = wanted.target, wanted.profile or _only_profile(api, wanted.target)
    made = _pending(api, msgspec.structs.replace(wanted, profile=profile))
    if made is None:
        if not wanted.reason:
            raise ClientError(
                f"you have no active grant on {target} as {profile}",
                hint="add --reason TEXT to ask for one, and --for DURATION",
            )
        answer = ask(
            api,
            target=target,
            profile=profile,
            reason=wanted.reason,
            duration_s=wanted.duration_s,
            databases=[wanted.database] if wanted.database else None,
        )
        made = read(Request, answer)
    decided = wait_for(api, made, f"`curfew connect {target} {profile}` goes on waiting")
    return read(Grant, api.get(f"/v1/grants/{segment(waiting.approved(decided))}"))


def _pending(api: Api, wanted: Wanted) -> Request | None:
    if wanted.reason is not None or wanted.duration_s is not None:
        return None
    me = read(Me, api.get("/v1/me")).name
    listed = read(list[Request], api.page("/v1/requests", limit=MINE, state="pending", person=me).items)
    return next((one for one in listed if one.extends is None and _serves(one, wanted, me)), None)


def _only_profile(api: Api, target: str) -> str:
    known = {one.name: one for one in read(list[Target], api.page("/v1/targets", limit=MINE).items)}
    if target not in known:
        raise ClientError(f"there is no target {target}", hint="`curfew targets` lists them")
    names = [one.name for one in known[target].profiles]
    if len(names) != 1:
        raise ClientError(f"{target} has several profiles: {', '.join(names)}", hint=f"curfew connect {target} PROFILE")
    return names[0]
