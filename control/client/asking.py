"""The commands about requests: `targets`, `request`, `requests`, `approve`, `deny`, `withdraw`."""

import base64
import hashlib
import ssl
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from control.client import listing, naming, screen, waiting
from control.client.account import Json
from control.client.answers import Request, Target, read
from control.client.api import PAGE, Api, from_environment, segment
from control.client.times import local_now, parse_duration, parse_moment, show_time
from control.durations import show_duration
from proxy.contract.grant import EndMode

INTERRUPTED = 130
DEFAULT_DURATION = "1h"
PEM_BEGIN, PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def seconds(text: str) -> int:
    """A duration as an option takes it."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def moment(text: str) -> datetime:
    """A time as an option takes it: one, or how long ago."""
    try:
        return parse_moment(text, now=local_now())
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from error


def _thumbprint(file: str) -> str:
    """The `x5t#S256` of the first certificate in a PEM file (RFC 8705, 3.1)."""
    try:
        first, end, _ = Path(file).read_text(encoding="ascii").partition(PEM_END)
        der = ssl.PEM_cert_to_DER_cert(first[first.find(PEM_BEGIN) :] + end)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file} has no certificate that can be read: {error}") from error
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


Duration = Annotated[
    int | None, typer.Option("--for", parser=seconds, metavar="DURATION", help="For how long: 90s, 15m, 1h30m.")
]
Certificate = Annotated[
    str | None,
    typer.Option(
        parser=_thumbprint, metavar="FILE", help="Bind the grant to this client certificate (PEM), your `sslcert`."
    ),
]
End = Annotated[
    EndMode,
    typer.Option(
        help="How the sessions end: `hard` at once, `finish` lets the running statement end (within a limit)."
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")]
Comment = Annotated[str | None, typer.Option(help="What the person should know.")]
RequestId = Annotated[str, typer.Argument(metavar="ID", help="The request, or the beginning of its id.")]


class RequestState(StrEnum):
    """A request's states."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


def targets(*, json: Json = False, limit: Limit = PAGE) -> None:
    """List what access can be asked for."""
    with from_environment() as api:
        page = api.page("/v1/targets", limit=limit)
    columns = ("TARGET", "PROFILES", "DEFAULT", "DATABASES", "DESCRIPTION")
    listing.show(
        page,
        Target,
        columns,
        lambda one: (
            one.name,
            ", ".join(profile.name for profile in one.profiles),
            one.database,
            ", ".join(one.databases),
            one.description,
        ),
        json=json,
        empty="no targets",
    )


def request(
    *,
    target: Annotated[str, typer.Argument(help="What to get at; `curfew targets` lists them.")],
    profile: Annotated[str, typer.Argument(help="With which rights.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    duration: Duration = DEFAULT_DURATION,  # type: ignore[assignment] # Typer parses a default as it does input
    database: Annotated[list[str] | None, typer.Option(help="A database of the target; may be repeated.")] = None,
    certificate: Certificate = None,
    end: End = EndMode.HARD,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is decided.")] = False,
    json: Json = False,
) -> None:
    """Ask for access to a target, for a reason and a duration."""
    with from_environment() as api:
        answer = ask(
            api,
            target=target,
            profile=profile,
            reason=reason,
            duration_s=duration,
            databases=database,
            certificate=certificate,
            end=end,
        )
        made = read(Request, answer)
        if wait:
            made = wait_for(api, made, f"`curfew connect {made.target} {made.profile}` takes it up")
            answer = api.get(f"/v1/requests/{segment(made.id)}")
    if json:
        screen.dump(answer)
    if wait:
        grant = waiting.approved(made)
        if not json:
            screen.say(f"{made.id} is approved by {made.decided_by}: grant {grant}")
            screen.note(f"next: curfew connect {made.target} --grant {grant}")
    elif not json:
        screen.say(f"{made.id} is {made.state}: {summary(made)}")


def requests(
    *,
    state: Annotated[RequestState | None, typer.Option(help="Only those in this state.")] = None,
    person: Annotated[str | None, typer.Option(help="Only this person's.")] = None,
    json: Json = False,
    limit: Limit = PAGE,
) -> None:
    """List requests: yours, or everybody's if you approve."""
    with from_environment() as api:
        page = api.page("/v1/requests", limit=limit, state=state, person=person)
    now = local_now()
    columns = ("ID", "STATE", "PERSON", "TARGET", "PROFILE", "FOR", "ASKED", "DECIDED BY", "REASON")
    listing.show(
        page,
        Request,
        columns,
        lambda one: (
            one.id,
            one.state,
            one.person,
            one.target,
            one.profile,
            ("+" if one.extends else "") + show_duration(one.duration_s or 0),
            show_time(one.created_at, now=now),
            one.decided_by,
            one.reason,
        ),
        json=json,
        empty="no requests",
    )


def approve(
    *, request_id: RequestId, comment: Comment = None, duration: Duration = None, end: End = EndMode.HARD
) -> None:
    """Approve a request, for its duration or a shorter one. How its sessions end is yours to pick."""
    body = {"comment": comment, "duration_s": duration}
    with from_environment() as api:
        # Left out where it is the default, so that an older service understands the rest.
        done = _decide(api, request_id, "approve", body if end is EndMode.HARD else body | {"end": end})
    screen.say(f"approved {done.id}: {summary(done)}")
    if done.extends:
        screen.note(f"`curfew grants` shows the new end of {done.extends}; the sessions on it go on")
        return
    if done.end == EndMode.FINISH and end is EndMode.HARD:
        screen.note(
            "it was asked that what runs may finish; granted is a hard end (--end finish would have allowed it)"
        )
    if done.grant:
        screen.note(f"grant {done.grant}; `curfew revoke {done.grant} --reason …` ends it early")


def deny(*, request_id: RequestId, comment: Comment = None) -> None:
    """Deny a request."""
    with from_environment() as api:
        done = _decide(api, request_id, "deny", {"comment": comment})
    screen.say(f"denied {done.id}: {summary(done)}")


def withdraw(*, request_id: RequestId) -> None:
    """Take your own request back."""
    with from_environment() as api:
        done = _decide(api, request_id, "withdraw", {})
    screen.say(f"withdrew {done.id}: {summary(done)}")


def ask(
    api: Api,
    *,
    target: str,
    profile: str,
    reason: str,
    duration_s: int | None,
    databases: list[str] | None,
    certificate: str | None = None,
    end: EndMode = EndMode.HARD,
) -> Any:  # noqa: ANN401 JSON
    """Make a request; the API's answer."""
    body: dict[str, Any] = {
        "target": target,
        "profile": profile,
        "duration_s": duration_s or parse_duration(DEFAULT_DURATION),
        "reason": reason,
    }
    body |= {"databases": databases} if databases else {}
    body |= {"certificate": certificate} if certificate else {}
    return api.post("/v1/requests", body if end is EndMode.HARD else body | {"end": end})


def wait_for(api: Api, made: Request, afterwards: str) -> Request:
    """The request once it is decided, with a sign of life meanwhile. Ctrl-C leaves it standing, and says so."""
    screen.note(f"{made.id} waits for an approver: {summary(made)}")
    try:
        with screen.console(stderr=True).status(f"waiting for the decision on {made.id} (Ctrl-C stops the waiting)"):
            return waiting.until_decided(api, made)
    except KeyboardInterrupt:
        screen.note(
            f"stopped waiting; {made.id} is still pending: {afterwards}, `curfew withdraw {made.id}` takes it back"
        )
        raise typer.Exit(INTERRUPTED) from None


def summary(one: Request) -> str:
    """A request in one line."""
    if one.extends:
        more = f"{one.person}: {show_duration(one.duration_s or 0)} more on grant {one.extends}"
        return f"{more} ({one.target} as {one.profile}): {one.reason or 'no reason given'}"
    databases = f" ({', '.join(one.databases)})" if one.databases and one.databases != ["*"] else ""
    length = f" for {show_duration(one.duration_s)}" if one.duration_s else ""
    bound = ", bound to a client certificate" if one.certificate else ""
    bound += ", asked to finish what runs at the end" if one.end == EndMode.FINISH else ""
    return f"{one.person} on {one.target}{databases} as {one.profile}{length}{bound}: {one.reason or 'no reason given'}"


def _decide(api: Api, request_id: str, verb: str, body: dict[str, Any]) -> Request:
    found = read(Request, naming.find(api, "requests", request_id))
    given = {name: value for name, value in body.items() if value is not None}
    return read(Request, api.post(f"/v1/requests/{segment(found.id)}/{verb}", given))
