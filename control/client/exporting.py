"""The command `export`: sessions in a format of others, or with all that it takes to verify them elsewhere."""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from control.client import heads, rendering, reporting, screen, transparency
from control.client.answers import Session, read
from control.client.api import Api, from_environment, segment
from control.client.asking import moment
from control.client.bundle import (
    MANIFEST,
    VERSION,
    Claim,
    Earlier,
    Log,
    Manifest,
    Writer,
    proof_name,
    records_name,
)
from control.client.errors import ClientError
from control.client.heads import verified
from control.client.rendering import Chosen, Form
from control.client.reporting import Report
from control.client.transparency import Consistency, LogFaultError, Seen
from control.client.verifying import HeadOption, LogKeyOption, proxy_keys
from control.client.wording import count
from proxy.contract.merkle import ProofError


def export(
    *,
    sessions: Annotated[
        list[str] | None, typer.Argument(metavar="SESSION...", help="The sessions, or the beginnings of their ids.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="FILE", help="Write a signed bundle to FILE, for a third party.")
    ] = None,
    wanted: Annotated[Form | None, typer.Option("--format", help="Write this format instead.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="The file for it, which must not exist; - for stdout."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All sessions, refused connections too.")] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="All sessions of that time: 7d, or 2026-11-22T12:00Z. Those that still run."),
    ] = None,
    log_key: LogKeyOption = None,
    head: HeadOption = None,
) -> None:
    """Write sessions to a file: for reading (html), replaying (asciicast), a SIEM (ocsf, ecs), or to be verified.

    A bundle is what `curfew verify` checks anywhere, without this service.
    """
    chosen = Chosen(names=sessions or [], everything=everything, since=None if since is None else moment(since))
    if (bundle is None) == (wanted is None):
        raise typer.BadParameter("give --format, or --bundle FILE for what `curfew verify` checks")
    if wanted is not None:
        if log_key or head:
            raise typer.BadParameter("--log-key and --head go with --bundle")
        rendering.export(chosen, wanted, output)
    elif bundle is not None:
        if output is not None or since is not None:
            raise typer.BadParameter("--output and --since go with --format")
        _bundle(bundle, chosen, log_key, head)


def _bundle(bundle: Path, chosen: Chosen, log_key: str | None, head: list[Path] | None) -> None:
    """Sessions and their proofs in one file."""
    key = heads.given_key(log_key) if log_key else None
    with from_environment() as api:
        seen = transparency.look(api, key=key, older=head or [], environment=os.environ)
        if not isinstance(seen, Seen):
            reporting.show(Report(log=seen, sessions=[]), json=False)
            raise ClientError("nothing was exported: there is no log to prove it with", hint="`curfew verify` too")
        wanted = rendering.find(api, chosen)
        proxies = proxy_keys(api)
        earlier = [_earlier(api, seen, heads.given_head(path)) for path in head or []]
        with Writer(bundle) as writer:
            claims = [_add(api, writer, one, seen, bundle.parent) for one in wanted]
            manifest = Manifest(
                version=VERSION,
                full=chosen.everything,
                made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                log=Log(key=seen.key.text, head=seen.note),
                earlier=earlier,
                proxies=proxies,
                sessions=[claim for claim in claims if claim is not None],
            )
            writer.add(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    records = sum(claim.records for claim in manifest.sessions)
    screen.say(f"exported {count(len(manifest.sessions), 'session')}, {count(records, 'record')} to {bundle}")
    screen.note(f"log {seen.head.origin} of {count(seen.head.size, 'record')}; who checks it needs the log's and the")
    screen.note("proxies' public keys from somebody else than you: --log-key, --proxy-key")


def _earlier(api: Api, seen: Seen, old: str) -> Earlier:
    """An older head with its proof; `look` has found both good."""
    try:
        size = verified(old, seen.key).size
    except ProofError as error:
        raise ClientError(f"the older head is not one of this log: {error}") from error
    answer = api.get("/v1/log/consistency", old=size, new=seen.head.size)
    return Earlier(head=old, hashes=read(Consistency, answer).hashes)


def _add(api: Api, writer: Writer, one: Session, seen: Seen, folder: Path) -> Claim | None:
    """One session, as far as the log's head has it. None where it began behind it."""
    try:
        answer = transparency.session_proof(api, one.id, seen.head)
        leaves, _ = transparency.prove_session(answer, seen.head)
    except LogFaultError as error:
        raise ClientError(f"session {one.id}: {error}", hint="`curfew verify` says more") from error
    if not leaves:
        return None
    size = 0
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for number, line in enumerate(api.lines(f"/v1/sessions/{segment(one.id)}/records")):
                if number == len(leaves):
                    break
                size += file.write(line + b"\n")
            file.seek(0)
            writer.add_file(records_name(one.id), file, size)
    except OSError as error:
        raise ClientError(f"cannot write to {folder}: {error.strerror}") from error
    writer.add(proof_name(one.id), msgspec.json.encode(answer))
    return Claim(id=one.id, proxy=one.proxy, records=len(leaves))
