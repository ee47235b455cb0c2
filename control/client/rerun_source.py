"""The sessions that are to be run again: their records, verified as `curfew verify` does it before anything is run.

What is run is what was verified: records are copied into a private folder first, read from there, and removed with it.
"""

import base64
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from control.client import checking, naming, transparency, verifying
from control.client.answers import Session, read
from control.client.api import Api, from_environment, segment
from control.client.bundle import Reader, records_name
from control.client.checking import Checked, Examined
from control.client.errors import ClientError
from control.client.rerun_rounds import CopyPart, Survey, survey
from control.client.transparency import LogFaultError, Seen
from proxy.contract.record import AnyRecord, CopyData, RecordError, SessionEnd, SessionStart, decode

TRIES = 3
MOST_SESSIONS = 10_000


class Log:
    """One session's records, in a file of ours."""

    def __init__(self, session: str, path: Path) -> None:
        self.session = session
        self._path = path
        self.surveyed = Survey()

    @property
    def start(self) -> SessionStart:
        """The first record."""
        assert self.surveyed.start is not None, "it was looked at"
        return self.surveyed.start

    @property
    def end(self) -> SessionEnd:
        """The last one."""
        assert self.surveyed.end is not None, "it was looked at"
        return self.surveyed.end

    @property
    def settings(self) -> dict[str, str]:
        """What its startup message asked for, and what the proxy said behind it."""
        ours = {"curfew.person": self.start.person, "curfew.grant": self.start.grant}
        name = self.start.application_name
        return {**(self.start.settings or {}), **({} if name is None else {"application_name": name}), **ours}

    def write(self, lines: Iterable[bytes]) -> int:
        """Take further lines, without their ends; how many there were."""
        count = 0
        with self._path.open("ab") as file:
            for count, line in enumerate(lines, start=1):  # noqa: B007 it is returned
                file.write(line + b"\n")
        return count

    def lines(self) -> Iterator[bytes]:
        """The lines, without their ends."""
        for _, line in self._read(0):
            yield line

    def records(self) -> Iterator[tuple[int, AnyRecord]]:
        """The records, each with its place in the file."""
        for place, line in self._read(0):
            yield place, decode(line)

    def data(self, part: CopyPart) -> Iterator[bytes]:
        """The data of a COPY in."""
        for place, line in self._read(part.first):
            if place >= part.end:
                return
            record = decode(line)
            if isinstance(record, CopyData) and record.direction == "in":
                yield base64.b64decode(record.base64)

    def _read(self, place: int) -> Iterator[tuple[int, bytes]]:
        with self._path.open("rb") as file:
            file.seek(place)
            for line in file:
                yield place, line.removesuffix(b"\n")
                place += len(line)

    def look(self) -> bool:
        """Read it once, for what is needed at its start. Whether anything was run in it: not if it was refused."""
        self.surveyed = survey(record for _, record in self.records())
        start = self.surveyed.start
        if start is not None and start.replication is not None:
            raise ClientError(f"{self.session} is a replication connection, which cannot be run again")
        return start is not None


class Logs:
    """All sessions that were named, verified. A context manager: the copies are gone with it. Raises ClientError."""

    def __init__(self, named: Sequence[str], *, grant: str | None, keys: Sequence[str]) -> None:
        self._named, self._grant = named, grant
        self._keys = [checking.public_key(one) for one in keys]
        self._stack = ExitStack()
        self._folder = Path()
        self.all: list[Log] = []

    def __enter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="curfew-replay-")))
        try:
            for one in self._named:
                self._add_file(Path(one)) if Path(one).is_file() else self._add_session(one)
            if self._grant is not None:
                self._add_grant(self._grant)
            self.all = [log for log in self.all if log.look()]
            if not self.all:
                raise ClientError("there is no session to run", hint="a connection that was refused has run nothing")
        except BaseException:
            self._stack.close()
            raise
        self.all.sort(key=lambda log: log.start.at)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _new(self, session: str) -> Log:
        if any(log.session == session for log in self.all):
            raise ClientError(f"session {session} is named twice")
        log = Log(session, self._folder / f"{len(self.all)}.ndjson")
        self.all.append(log)
        return log

    # From a file.

    def _add_file(self, path: Path) -> None:
        if not self._keys:
            raise ClientError(
                f"whether the records in {path} are the proxy's cannot be said without its key",
                hint="give it with --proxy-key KEY (GET /v1/proxies has it); what is not verified is not run",
            )
        added = len(self.all)
        if tarfile.is_tarfile(path):
            with Reader(path) as bundle:
                for claim in bundle.manifest.sessions:
                    self._new(claim.id).write(bundle.lines(records_name(claim.id)))
        else:
            self._split(path)
        for log in self.all[added:]:
            _must_hold(checking.check(log.lines(), self._keys, session=log.session))

    def _split(self, path: Path) -> None:
        logs: dict[str, Log] = {}
        number = 0
        try:
            with path.open("rb") as file:
                for session, lines in groupby(file, key=lambda line: decode(line).session):
                    if session not in logs:
                        logs[session] = self._new(session)
                    number += logs[session].write(line.removesuffix(b"\n") for line in lines)
        except OSError as error:
            raise ClientError(f"cannot read {path}: {error.strerror}") from error
        except RecordError as error:
            raise ClientError(f"a line behind line {number} of {path} is bad: {error}") from error

    # From the service.

    def _add_grant(self, grant: str) -> None:
        with from_environment() as api:
            page = api.page("/v1/sessions", limit=MOST_SESSIONS, grant=grant, state="ended")
            for one in read(list[Session], page.items):
                self._fetch(api, one)

    def _add_session(self, text: str) -> None:
        with from_environment() as api:
            self._fetch(api, read(Session, naming.find(api, "sessions", text)))

    def _fetch(self, api: Api, found: Session) -> None:
        keys = self._keys or _keys_of(api, found)
        log = self._new(found.id)
        log.write(api.lines(f"/v1/sessions/{segment(found.id)}/records"))
        _must_hold(_in_log(api, checking.examine(log.lines(), keys, session=found.id), os.environ))


def _keys_of(api: Api, found: Session) -> list[Ed25519PublicKey]:
    keys = verifying.proxy_keys(api).get(found.proxy or "", [])
    if not keys:
        raise ClientError(f"the service has no key of proxy {found.proxy}", hint=verifying.GIVE_KEY)
    return [checking.public_key(key) for key in keys]


def _in_log(api: Api, examined: Examined, environment: Mapping[str, str]) -> Checked:
    """Hold the records against the log. Its newest head may be a moment older than they are."""
    checked = examined.checked
    for _ in range(TRIES):
        seen = transparency.look(api, key=None, older=[], environment=environment)
        if not isinstance(seen, Seen):
            raise ClientError(f"the log of the service is not to be trusted: {seen.fault}")
        try:
            answer = transparency.session_proof(api, checked.session, seen.head)
            _, proven = transparency.prove_session(answer, seen.head)
        except LogFaultError as error:
            raise ClientError(f"session {checked.session} is not proven to be in the log: {error}") from error
        checked = checking.against_log(examined, proven)
        if checked.fault is None or len(proven) >= len(examined.leaves):
            break
    return checked


def _must_hold(checked: Checked) -> None:
    if checked.fault is not None:
        where = "its records" if checked.seq is None else f"record {checked.seq}"
        raise ClientError(
            f"session {checked.session}, {where}: {checked.fault}",
            hint="nothing was run: only what is proven to be the proxy's is; `curfew verify` says more",
        )
