"""Towards PostgreSQL: dial a target, log in as an access profile, and send cancel requests.

Owns everything between "the person is admitted" and the upstream's first ReadyForQuery; `proxy.hosts` chooses the
host, `proxy.dial` opens the socket and `proxy.login` holds the conversation. Never relays (see `proxy.relay`).
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from proxy.authentication import Authentication, CredentialError, Terms
from proxy.certificates import Certificate
from proxy.contract.settings import AccessProfile, Host, Keeper, Secret, SettingsError, Target
from proxy.dial import Server, UpstreamError, dial, redial
from proxy.errors import ClientGone, SessionError, StartRefused, UpstreamFailed
from proxy.hosts import Hosts
from proxy.leg import Leg
from proxy.login import Connected, Login
from proxy.scram import KeyCache
from proxy.upstream_tls import Contexts
from proxy.wire import messages

__all__ = ["Connected", "Dialler", "UpstreamError"]

MAX_CANCELS = 16
CANCEL_EOF_S = 5.0
_MINORS = {"3.0": 0, "3.2": 2}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLogin:
    """A login that is not in the configuration, but made for a grant (`proxy.accounts`)."""

    user: str
    password: str | None = field(repr=False)
    certificate: Certificate | None


class Dialler:
    """The way to one target. Holds its TLS contexts and the keys derived from its passwords."""

    def __init__(self, name: str, target: Target, *, read_secret: Callable[[Secret | None], str | None]) -> None:
        """`read_secret` is `proxy.config.read_secret`; it is called in a thread. Raises SettingsError."""
        self._name = name
        self._target = target
        self._read_secret = read_secret
        self._keys = KeyCache()
        self._cancels = asyncio.Semaphore(MAX_CANCELS)
        self._contexts = Contexts(name, target)
        self._hosts = Hosts(name, target)

    async def connect(self, profile: AccessProfile, parameters: Sequence[tuple[bytes, bytes]]) -> Connected:
        """`log_in` for a session: where the target refuses the profile's login, the log says it loudly."""
        try:
            return await self.log_in(profile, parameters)
        except CredentialError as error:
            log.error(  # noqa: TRY400 an operator's matter, no fault of the code: no traceback
                "the target refused the proxy's own login", target=self._name, user=profile.user, why=str(error)
            )
            raise

    async def log_in(
        self, login: AccessProfile | Keeper | MadeLogin, parameters: Sequence[tuple[bytes, bytes]]
    ) -> Connected:
        """Log in with `parameters` (user and database among them) as the StartupMessage. Raises UpstreamError.

        The connect timeout is over all of it: the password's source, names, TLS, authentication, the backend's start.
        """
        try:
            async with asyncio.timeout(self._target.connect_timeout_s) as deadline:
                terms, tls = await asyncio.to_thread(self._prepare, login)

                async def attempt(host: Host, until: float) -> Connected:
                    leg, server = await dial(host, tls, direct=self._target.sslnegotiation == "direct", until=until)
                    return await self._converse(leg, server, terms, parameters)

                until = deadline.when() or 0.0
                deadline.reschedule(None)  # from here on each host has its share of it, and an error of its own
                return await self._hosts.first_that_fits(attempt, until)
        except UpstreamError as error:
            raise _at(self._name, error) from error
        except TimeoutError as error:
            raise UpstreamError(f"{self._name}: not ready within {self._target.connect_timeout_s:g} s") from error
        except (OSError, ValueError, SettingsError) as error:  # the password's source; a NUL in a parameter
            raise UpstreamError(f"{self._name}: {error}") from error

    def _prepare(self, login: AccessProfile | Keeper | MadeLogin) -> tuple[Terms, ssl.SSLContext | None]:
        """Read what may have changed since the last session: passwords and certificates count at once."""
        if isinstance(login, MadeLogin):
            return self._terms(login.user, login.password), self._contexts.showing(login.certificate)
        user = login.login if isinstance(login, AccessProfile) else login.user
        return self._terms(user, self._read_secret(login.password)), self._contexts.get(login)

    def _terms(self, user: str, password: str | None) -> Terms:
        return Terms(
            user=user,
            password=password,
            methods=self._target.require_auth,
            channel_binding=self._target.channel_binding,
        )

    async def _converse(
        self, leg: Leg, server: Server, terms: Terms, parameters: Sequence[tuple[bytes, bytes]]
    ) -> Connected:
        try:
            tls = leg.transport.get_extra_info("ssl_object")
            authentication = Authentication(terms, tls, self._keys)
            minor = _MINORS[self._target.max_protocol_version]
            return await Login(leg, server, authentication, minor=minor).run(parameters)
        except BaseException as error:
            leg.transport.abort()
            if isinstance(error, UpstreamError):
                raise _at(str(server.host), error) from error
            raise

    async def cancel(self, server: Server, pid: int, secret: bytes) -> None:
        """Ask `server` to cancel what backend `pid` runs; returns when the server has closed. Raises UpstreamError.

        At most MAX_CANCELS are under way; one more waits its turn, no longer than the connect timeout.
        """
        try:
            async with asyncio.timeout(self._target.connect_timeout_s) as deadline, self._cancels:
                leg = await redial(server, until=deadline.when() or 0.0)
                deadline.reschedule(asyncio.get_running_loop().time() + CANCEL_EOF_S)
                try:
                    leg.write(messages.cancel_request(pid, secret))
                    await leg.read_bytes(1)
                finally:
                    leg.transport.abort()
        except ClientGone:
            pass  # as it should be: the server says nothing and closes
        except UpstreamError as error:
            raise _at(self._name, error) from error
        except TimeoutError as error:
            raise UpstreamError(f"{self._name}: a cancel request was not taken in time") from error


def _at(place: str, error: UpstreamError) -> UpstreamError:
    """The same error, with the place in its text for the log."""
    return type(error)(f"{place}: {error}", sqlstate=error.sqlstate, public=error.public, answer=error.answer)


def told_to_client(error: UpstreamError) -> SessionError:
    """The refusal that a client gets for `error`."""
    if error.answer is not None:
        return StartRefused(str(error), error.answer)
    failed = UpstreamFailed(str(error))
    failed.sqlstate, failed.message = error.sqlstate, error.public
    return failed
