"""A bundle: one tar file with sessions' records and all that it takes to verify them without any service.

Only ever read in place: nothing in it is unpacked, so no name in it leads anywhere. Whoever made it may be hostile.
"""

import io
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar
from urllib.parse import quote

import msgspec

from control.client import private
from control.client.api import LINE_BYTES
from control.client.errors import ClientError

VERSION = 1
MANIFEST = "bundle.json"
README = "README.txt"
MANIFEST_BYTES = 256 << 20
PROOF_BYTES = 2 << 30
MOST_MEMBERS = 4_000_000

Kind = TypeVar("Kind")

ABOUT = """\
A bundle of Curfew: what was done in databases, with the proof that it is what was recorded.

    curfew verify BUNDLE --log-key KEY --proxy-key KEY [--head FILE]

needs no service and no account: `pip install pgcurfew` on any machine. Get the two keys from somebody else than who
gave you this bundle (the log's: GET /v1/log/key; a proxy's: GET /v1/proxies). Without them the ones in here are used,
and all that is shown then is that the bundle agrees with itself. FILE is an older head of the log, as published: with
it, verify shows too that nothing was rolled back or rewritten since then.

README.txt
    This text.
bundle.json
    What is claimed: the log's key and signed head (C2SP checkpoint); older heads, each with the proof that the log
    still has all of it (RFC 9162, 2.1.4); the proxies' public keys (Ed25519, base64url); the sessions. "full": these
    are all sessions of the log.
sessions/ID.ndjson
    A session's records, one on each line, byte for byte as the proxy wrote them. `prev` is the SHA-256 of the line
    before; the last line's `signature` is the proxy's, over all of the line up to it (proxy/contract/record.py).
sessions/ID.proof.json
    Where these lines stand in the log ("leaves": ranges, first and count), their leaf hashes, SHA-256(0x00 || line),
    and the hashes of the tree's largest other parts from the left, each of 32 bytes, one after the other, in base64:
    together they give the root in the head (proxy/contract/subset.py).
"""


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The log that the bundle is of."""

    key: str
    head: str


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """An older head, and the proof that the newer one's tree begins with it."""

    head: str
    hashes: list[str]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A session that the bundle claims to have."""

    id: str
    proxy: str | None
    records: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that the bundle claims."""

    version: int
    full: bool
    made_at: str
    log: Log
    earlier: list[Earlier]
    proxies: dict[str, list[str]]
    sessions: list[Claim]


def records_name(session: str) -> str:
    """The member that has a session's records."""
    return f"sessions/{quote(session, safe='')}.ndjson"


def proof_name(session: str) -> str:
    """The member that has the proof for them."""
    return f"sessions/{quote(session, safe='')}.proof.json"


class Writer:
    """Writes a bundle to a new file, for the owner alone. A context manager; nothing is left where it raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = ExitStack()
        file = self._new.enter_context(private.new(path))
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 closed below
        self.add(README, ABOUT.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._new.__exit__(kind, error, trace)
            return
        with self._new:
            self._tar.close()

    def add(self, name: str, content: bytes) -> None:
        """A small member."""
        self.add_file(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, file: IO[bytes], size: int) -> None:
        """A member of `size` bytes, read from `file`."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        try:
            self._tar.addfile(member, file)
        except OSError as error:
            raise ClientError(f"cannot write {self._path}: {error.strerror}") from error


class Reader:
    """Reads a bundle. A context manager. Everything raises ClientError where the file is no bundle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, tarfile.TarInfo] = {}
        with self._damage_in_words(str(path)):
            self._tar = tarfile.open(path, mode="r:")  # noqa: SIM115 closed by __exit__
        try:
            with self._damage_in_words(str(path)):
                self._list()
            self.manifest = self.json(MANIFEST, Manifest, MANIFEST_BYTES)
            if self.manifest.version != VERSION:
                raise ClientError(
                    f"{path} is a bundle of version {self.manifest.version}", hint="a newer curfew reads it"
                )
        except BaseException:
            self._tar.close()
            raise

    def _list(self) -> None:
        for number, member in enumerate(self._tar):
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
            if not plain or number >= MOST_MEMBERS:
                raise ClientError(f"{self._path} is no bundle: {member.name} is not a plain file")
            if member.name in self._members:
                raise ClientError(f"{self._path} has {member.name} twice: it was tampered with")
            self._members[member.name] = member

    @contextmanager
    def _damage_in_words(self, what: str) -> Iterator[None]:
        """Whatever tarfile raises where the file is no tar file, or a hostile one."""
        try:
            yield
        except (tarfile.TarError, OSError, ValueError, EOFError, ArithmeticError, LookupError) as error:
            raise ClientError(f"{what} is no bundle, or is cut or damaged: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    @property
    def names(self) -> set[str]:
        """All members."""
        return set(self._members)

    def json(self, name: str, kind: type[Kind], most: int = PROOF_BYTES) -> Kind:
        """A member's JSON as `kind`."""
        content = self._content(name, most)
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ClientError(f"{name} in {self._path} is damaged: {error}") from error

    def lines(self, name: str) -> Iterator[bytes]:
        r"""A member's lines, without their newlines. Only `\n` ends a line."""
        with self._open(name) as file:
            while True:
                with self._damage_in_words(f"{name} in {self._path}"):
                    line = file.readline(LINE_BYTES + 1)
                if not line:
                    return
                if len(line) > LINE_BYTES:
                    raise ClientError(f"{name} in {self._path} has a line of more than {LINE_BYTES} bytes")
                yield line.removesuffix(b"\n")

    def _content(self, name: str, most: int) -> bytes:
        if name in self._members and self._members[name].size > most:
            raise ClientError(f"{name} in {self._path} is too large")
        with self._open(name) as file, self._damage_in_words(f"{name} in {self._path}"):
            return file.read()

    def _open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        file: Any = None if member is None else self._tar.extractfile(member)
        if file is None:
            raise ClientError(f"{self._path} has no {name}")
        opened: IO[bytes] = file
        return opened
