"""Behind a pooler: who the backend of a fresh login is, asked on the session itself before it is the client's.

A pooler's BackendKeyData is its own, and it hands a backend on to somebody else when its client has left. So a login
behind a pooler (`targets.NAME.pooler`) is asked for its backend's pid and start, and the backend gets a mark: an
advisory lock in the session's name, which pg_locks shows to everybody. The pooler's reset takes it away (DISCARD ALL),
so a backend with the mark is this session's, and one without it may be anybody's. Owns these questions, the mark, and
the proof that the pool is one of sessions. On a login without a pooler nothing is ever asked.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from proxy import query
from proxy.contract.grant import Grant
from proxy.dial import UpstreamError
from proxy.errors import ClientGone, ProtocolViolation
from proxy.leg import Leg
from proxy.login import Connected
from proxy.wire import messages

MAX_MESSAGES = 100
ASK_S = 10.0
"""For both questions. A pool that is full makes its clients wait for a backend."""
PROBE_S = 2.0
PROVEN_S = 600.0
"""How long a pool that was seen to be one of sessions is taken for one: its configuration may change."""
IDLE = b"I"

# What the client has set for its session (search_path, DateStyle, client_encoding) is in force already: every name is
# qualified, every time is written here, and what is not ASCII travels as hexadecimal digits (CVE-2025-12819).
_WHO = """
SELECT pg_catalog.pg_backend_pid(),
       (SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', activity.backend_start), 'YYYY-MM-DD"T"HH24:MI:SS.US')
        FROM pg_catalog.pg_stat_activity AS activity
        WHERE activity.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks AS held
        WHERE held.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
              AND held.locktype OPERATOR(pg_catalog.=) 'advisory')
"""
_MARK = """
SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_try_advisory_lock($1::pg_catalog.int8),
       pg_catalog.set_config('curfew.person', pg_catalog.convert_from(pg_catalog.decode($2, 'hex'), 'UTF8'), false),
       pg_catalog.set_config('curfew.grant', $3, false)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A backend, by its own word."""

    pid: int
    started: str | None
    """ISO 8601; None where a role that the client has asked for has no right to see it."""
    locks: int
    """How many advisory locks it holds, of which a backend that is nobody's yet has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Who the backend is, and what was said meanwhile that is the client's to hear."""

    identity: Identity
    heard: bytes
    """ParameterStatus and NoticeResponse messages, byte for byte."""


def mark_of(session: str) -> int:
    """The advisory lock that marks the backend of `session`: a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(f"curfew session {session}".encode()).digest()[:8], signed=True)


async def settle(connected: Connected, *, session: str, grant: Grant) -> Settled:
    """Learn who the backend is, mark it, and tell it for whom it works. Raises UpstreamError.

    Two statements, each a transaction of its own: a pool of transactions may answer them with two backends.
    """
    asking = _Asking(connected.leg)
    async with _in_time(ASK_S):
        identity = await asking.who()
        if identity.locks:
            raise UpstreamError(
                f"the pooler has given out backend {identity.pid} with locks that somebody else took: it pools "
                "transactions, or does not reset backends (PgBouncer: pool_mode = session, server_reset_query = "
                "DISCARD ALL)"
            )
        person = grant.person.encode().hex()
        ((pid, marked, *_),) = await asking.rows(_MARK, str(mark_of(session)), person, grant.id)
    if _number(pid) != identity.pid:
        raise _not_sessions(identity.pid)
    if marked != "t":
        raise UpstreamError(f"backend {identity.pid} could not be marked as this session's")
    return Settled(identity=identity, heard=bytes(asking.heard))


async def check(connected: Connected, another: Callable[[], Awaitable[Connected]]) -> None:
    """See that a pool is one of sessions, by two logins of which nobody needs more. Raises UpstreamError."""
    async with _in_time(ASK_S):
        identity = await _Asking(connected.leg).who()
    await Proofs().prove(("", ""), (connected, identity), another)


class Proofs:
    """Which pools of a target were seen to be pools of sessions lately, by login and database."""

    def __init__(self) -> None:
        self._proven: dict[tuple[str, str], float] = {}

    async def prove(
        self,
        pool: tuple[str, str],
        settled: tuple[Connected, Identity],
        another: Callable[[], Awaitable[Connected]],
    ) -> bytes:
        """See that a second login to `pool` gets another backend than the one that is settled. Raises UpstreamError.

        One that gets none for PROBE_S while we hold ours will do: it waits for ours, which a pool of transactions would
        have given it. Returns what the first login heard meanwhile.
        """
        if time.monotonic() < self._proven.get(pool, 0.0):
            return b""
        connected, identity = settled
        try:
            async with asyncio.timeout(PROBE_S):
                second = await another()
                try:
                    if (await _Asking(second.leg).who()).pid == identity.pid:
                        raise _not_sessions(identity.pid)
                    second.leg.write(messages.TERMINATE)
                finally:
                    second.leg.transport.close()
        except TimeoutError:
            pass
        asking = _Asking(connected.leg)
        async with _in_time(ASK_S):
            if (await asking.who()).pid != identity.pid:
                raise _not_sessions(identity.pid)
        self._proven[pool] = time.monotonic() + PROVEN_S
        return bytes(asking.heard)


class _Asking:
    """Questions on a login that nobody else reads yet: each answer is read to its ReadyForQuery, and no further."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg
        self.heard = bytearray()

    async def who(self) -> Identity:
        ((pid, started, locks),) = await self.rows(_WHO)
        return Identity(pid=_number(pid), started=None if started is None else f"{started}+00:00", locks=_number(locks))

    async def rows(self, sql: str, *values: str) -> list[query.Row]:
        """One row at most, for a bound. Raises UpstreamError."""
        self._leg.write(query.ask_once(sql, values))
        found: list[query.Row] = []
        try:
            for _ in range(MAX_MESSAGES):
                kind, body = await self._leg.read(query.MAX_MESSAGE_BYTES)
                match chr(kind):
                    case "1" | "2" | "3" | "C":
                        pass
                    case "S" | "N":
                        self.heard += query.message(b"%c" % kind, body)
                    case "D" if not found:
                        found.append(query.row(body))
                    case "E":
                        fields = messages.parse_error(body)
                        said = messages.sanitise(fields.get("M", ""))[:1_000]
                        raise UpstreamError(f"asked who its backend is, it said {fields.get('C')} {said!r}")
                    case "Z" if body == IDLE and found:
                        return found
                    case _:
                        raise ProtocolViolation(f"unexpected message of type {kind}")
        except ClientGone as error:
            raise UpstreamError("the server closed the connection when asked who its backend is") from error
        except (ProtocolViolation, ValueError) as error:
            raise UpstreamError(f"{error}, when asked who its backend is") from error
        raise UpstreamError(f"more than {MAX_MESSAGES} messages when asked who its backend is")


@contextlib.asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise UpstreamError(f"no word in {seconds:g} s on who the backend is: is the pool full?") from error


def _not_sessions(pid: int) -> UpstreamError:
    return UpstreamError(
        f"the pooler shares backend {pid} between clients: it pools transactions or statements, and nobody could end "
        "one session's work (PgBouncer: pool_mode = session)"
    )


def _number(text: str | None) -> int:
    if text is None:
        raise ValueError("no number")
    return int(text)
