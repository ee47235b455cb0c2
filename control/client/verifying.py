"""The command `verify`: a session at the service, or a file of records or a bundle without any service."""

import os
import tarfile
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from control.client import checking, heads, naming, offline, reporting, screen, transparency
from control.client.answers import Proxy, Session, read
from control.client.api import Api, from_environment, segment
from control.client.checking import Checked, Examined
from control.client.errors import AnsweredError, ClientError
from control.client.heads import LogKey
from control.client.reporting import Report
from control.client.transparency import LogFaultError, Seen
from control.client.wording import count

FAILED = 1
PROXIES = 10_000
TRIES = 3
GIVE_KEY = "ask an administrator for the proxy's key, and give it with --proxy-key"

LogKeyOption = Annotated[
    str | None,
    typer.Option("--log-key", metavar="KEY", help="The log's public key (GET /v1/log/key), or a file with it."),
]
HeadOption = Annotated[
    list[Path] | None,
    typer.Option("--head", metavar="FILE", help="An older head of the log, as published: it must still hold."),
]


def verify(
    *,
    session: Annotated[
        str, typer.Argument(metavar="SESSION|FILE", help="A session, a bundle, or a file of records (NDJSON).")
    ],
    proxy_key: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy-key",
            "--public-key",
            metavar="KEY",
            help="The proxy's public key, or a file with it; default: from the service, or the bundle.",
        ),
    ] = None,
    log_key: LogKeyOption = None,
    head: HeadOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Check that records are what the proxy wrote: all of them, in order, unchanged, signed, and in the log."""
    path = Path(session)
    keys = [checking.public_key(one) for one in proxy_key or []]
    log = heads.given_key(log_key) if log_key else None
    if not path.is_file():
        report = _verify_session(session, keys, log, head or [])
    elif tarfile.is_tarfile(path):
        report = offline.verify_bundle(path, keys, log, head or [])
    else:
        if log or head:
            raise ClientError(f"{path} holds records alone, no proof that they are in a log", hint="`curfew export`")
        report = Report(log=None, sessions=_verify_file(path, keys))
    reporting.show(report, json=json)
    if not report.ok:
        raise typer.Exit(FAILED)


def _verify_file(path: Path, keys: list[Ed25519PublicKey]) -> list[Checked]:
    try:
        with path.open("rb") as file:
            found = checking.by_session(file)
    except OSError as error:
        raise ClientError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        raise ClientError(f"{path} holds no records")
    return [checking.check(lines, keys, session=name) for name, lines in found.items()]


def _verify_session(text: str, given: list[Ed25519PublicKey], log: LogKey | None, older: list[Path]) -> Report:
    with from_environment() as api:
        found = read(Session, naming.find(api, "sessions", text))
        keys = given or [checking.public_key(key) for key in _proxy_keys(api, found)]
        report = _against_log(api, found.id, keys, log, older)
    if found.faults:
        screen.note(f"the service has noted {count(found.faults, 'fault')} in what was sent to it for this session")
    if not given:
        screen.note("whose key it is, is the service's word; --proxy-key KEY makes the check independent of it")
    if report.log is not None and not report.log.pinned:
        screen.note("the log was not seen before: its key is the service's word, and is kept; --log-key KEY checks it")
    return report


def _against_log(api: Api, session: str, keys: list[Ed25519PublicKey], log: LogKey | None, older: list[Path]) -> Report:
    """The session's records by themselves, and then as the log has them: one that runs may have grown in between."""
    for _ in range(TRIES):
        examined = checking.examine(api.lines(_path(session)), keys, session=session)
        seen = transparency.look(api, key=log, older=older, environment=os.environ)
        if not isinstance(seen, Seen):
            return Report(log=seen, sessions=[examined.checked])
        try:
            answer = transparency.session_proof(api, session, seen.head)
            _, proven = transparency.prove_session(answer, seen.head)
        except LogFaultError as error:
            return Report(log=transparency.faulty(seen.checked, error), sessions=[examined.checked])
        if not (_short(examined, proven) and _more(api, session, len(examined.leaves))):
            return Report(log=seen.checked, sessions=[checking.against_log(examined, proven)])
    raise ClientError("the session grows faster than it can be read", hint="verify it once it has ended")


def _short(examined: Examined, proven: list[bytes]) -> bool:
    return examined.complete and len(examined.leaves) < len(proven)


def _more(api: Api, session: str, count_read: int) -> bool:
    with closing(api.lines(_path(session), after=count_read - 1)) as lines:
        return next(lines, None) is not None


def _proxy_keys(api: Api, session: Session) -> list[str]:
    keys = proxy_keys(api).get(session.proxy or "", [])
    if not keys:
        raise ClientError(f"the service has no key of proxy {session.proxy}", hint=GIVE_KEY)
    return keys


def proxy_keys(api: Api) -> dict[str, list[str]]:
    """All proxies' public keys, by name. Raises ClientError."""
    try:
        known = read(list[Proxy], api.page("/v1/proxies", limit=PROXIES).items)
    except AnsweredError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        raise ClientError("the service does not show you its proxies' public keys", hint=GIVE_KEY) from error
    return {one.name: one.public_keys or [one.public_key] for one in known}


def _path(session: str) -> str:
    return f"/v1/sessions/{segment(session)}/records"
