"""A target's hosts: in which order they are tried, and which of them will do (libpq's `target_session_attrs`).

Owns what is known of hosts that did not answer. Never dials and never logs in (see `proxy.upstream`).
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from proxy.contract.settings import Host, Target
from proxy.dial import Unreachable, UpstreamError
from proxy.login import Connected
from proxy.wire import messages

RECHECK_S = 10.0
"""How long a host that did not answer is tried last, so that not every session waits for it (pgjdbc does the same)."""
STARTING = "57P03"
"""Starting up, shutting down or a standby that takes no connections: as in libpq, the next host may be better."""
_NEUTRAL = "08006"
_UNFIT = "unfit"
"""Stands in for a SQLSTATE, inside this module alone."""

log = structlog.get_logger(__name__)


class Hosts:
    """The hosts of one target."""

    def __init__(self, name: str, target: Target) -> None:
        self._name = name
        self._hosts = target.hosts
        self._wanted = target.target_session_attrs
        self._silent_since: dict[Host, float] = {}

    async def first_that_fits(self, attempt: Callable[[Host, float], Awaitable[Connected]], until: float) -> Connected:
        """Log in by `attempt(host, deadline)` to the first host that will do; each has its share of the time left.

        As in libpq, the next host is tried where one is not there or not ready, or is not what `target_session_attrs`
        asks for; it is not where TLS or the login fails. Raises UpstreamError.
        """
        loop = asyncio.get_running_loop()
        failures: dict[Host, UpstreamError] = {}
        tries = self._tries(loop.time())
        for number, (wanted, host) in enumerate(tries):
            if host in failures and failures[host].sqlstate != _UNFIT:
                continue  # the second round of prefer-standby: it was not there a moment ago
            own = loop.time() + (until - loop.time()) / (len(tries) - number)
            try:
                connected = await _within(own, host, attempt(host, own))
            except UpstreamError as error:
                if not isinstance(error, Unreachable) and error.sqlstate != STARTING:
                    raise
                self._silent_since[host] = loop.time()
                failures[host] = error
                continue
            self._silent_since.pop(host, None)
            if why := misfit(connected.announcement, wanted):
                _leave(connected)
                failures[host] = UpstreamError(f"{host}: {why}", sqlstate=_UNFIT)
                continue
            if len(self._hosts) > 1:
                passed_over = {str(other): str(error) for other, error in failures.items() if other != host}
                log.info("host chosen", target=self._name, host=str(host), passed_over=passed_over)
            return connected
        raise _all_failed(list(failures.values()))

    def _tries(self, now: float) -> list[tuple[str, Host]]:
        """Each host with what it must be; those that were silent lately come last."""
        hosts = sorted(self._hosts, key=lambda host: now - self._silent_since.get(host, -RECHECK_S) < RECHECK_S)
        wishes = ("standby", "any") if self._wanted == "prefer-standby" else (self._wanted,)
        return [(wanted, host) for wanted in wishes for host in hosts]


async def _within(until: float, host: Host, attempt: Awaitable[Connected]) -> Connected:
    seconds = until - asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(until):
            return await attempt
    except TimeoutError as error:
        raise Unreachable(f"{host}: not ready within {seconds:.1f} s") from error


def _all_failed(errors: list[UpstreamError]) -> UpstreamError:
    """One error for all hosts. The client is told what one of them said for it, if one did."""
    if len(errors) == 1 and errors[0].sqlstate != _UNFIT:
        return errors[0]
    text = "; ".join(map(str, errors))
    told = next((error for error in errors if error.sqlstate not in (_UNFIT, _NEUTRAL)), None)
    if told is None:
        return UpstreamError(text)
    return UpstreamError(text, sqlstate=told.sqlstate, public=told.public, answer=told.answer)


def _leave(connected: Connected) -> None:
    """Say goodbye to a backend that will not do."""
    connected.leg.write(messages.TERMINATE)
    connected.leg.transport.close()


def misfit(announcement: bytes, wanted: str) -> str | None:
    """Why a server that announced this is not what `target_session_attrs` wants, in libpq's meanings.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS
    """
    if wanted == "any":
        return None
    said = parameters(announcement)
    standby, reads_only = said.get(b"in_hot_standby"), said.get(b"default_transaction_read_only")
    if standby is None or reads_only is None:
        return "it does not say whether it is a standby; PostgreSQL 14 and newer do"
    read_only = b"on" in (standby, reads_only)
    fits = {
        "read-write": not read_only,
        "read-only": read_only,
        "primary": standby == b"off",
        "standby": standby == b"on",
    }
    return None if fits[wanted] else f"it is not {wanted}"


def parameters(announcement: bytes) -> dict[bytes, bytes]:
    """The values that the ParameterStatus messages of an announcement tell, the last one of each name."""
    told: dict[bytes, bytes] = {}
    at = 0
    while at < len(announcement):
        end = at + 1 + int.from_bytes(announcement[at + 1 : at + 5])
        if announcement[at] == ord("S"):
            name, _, value = announcement[at + 5 : end].partition(b"\0")
            told[name] = value.rstrip(b"\0")
        at = end
    return told
