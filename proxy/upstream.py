"""Towards PostgreSQL: dial a target, log in as an access profile, and send cancel requests.

Owns everything between "the person is admitted" and the upstream's first ReadyForQuery; `proxy.dial` opens the socket
and `proxy.login` holds the conversation. Never relays (see `proxy.relay`).
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence

import structlog

from proxy.contract.settings import AccessProfile, Secret, SettingsError, Target
from proxy.dial import UpstreamError, dial, tls_context
from proxy.errors import ClientGone
from proxy.login import Connected, CredentialError, Login
from proxy.scram import KeyCache
from proxy.wire import messages

__all__ = ["Connected", "Dialler", "UpstreamError"]

MAX_CANCELS = 16
CANCEL_EOF_S = 5.0

log = structlog.get_logger(__name__)


class Dialler:
    """The way to one target. Holds its TLS context and the keys derived from its passwords."""

    def __init__(self, name: str, target: Target, *, read_secret: Callable[[Secret | None], str | None]) -> None:
        """`read_secret` is `proxy.config.read_secret`; it is called in a thread. Raises SettingsError."""
        self._name = name
        self._target = target
        self._read_secret = read_secret
        self._keys = KeyCache()
        self._cancels = asyncio.Semaphore(MAX_CANCELS)
        self.tls: ssl.SSLContext | None = tls_context(name, target)

    async def connect(self, profile: AccessProfile, parameters: Sequence[tuple[bytes, bytes]]) -> Connected:
        """Log in with `parameters` (user and database among them) as the StartupMessage. Raises UpstreamError.

        The connect timeout is over all of it: the password's source, names, TLS, authentication, the backend's start.
        """
        try:
            async with asyncio.timeout(self._target.connect_timeout_s) as deadline:
                # Read anew for each session, so that a password that was changed counts at once.
                password = await asyncio.to_thread(self._read_secret, profile.password)
                leg = await dial(self._target, self.tls, deadline)
                try:
                    return await Login(leg, password, self._keys, trusted=self._verifies).run(parameters)
                except BaseException:
                    leg.transport.abort()
                    raise
        except CredentialError as error:
            log.error(  # noqa: TRY400 an operator's matter, no fault of the code: no traceback
                "the target refused the proxy's own login", target=self._name, user=profile.user, why=str(error)
            )
            raise self._named(error) from error
        except UpstreamError as error:
            raise self._named(error) from error
        except TimeoutError as error:
            raise UpstreamError(f"{self._name}: not ready within {self._target.connect_timeout_s:g} s") from error
        except (OSError, ValueError, SettingsError) as error:  # the password's source; a NUL in a parameter
            raise UpstreamError(f"{self._name}: {error}") from error

    async def cancel(self, pid: int, secret: bytes) -> None:
        """Ask the server to cancel what backend `pid` runs; returns when the server has closed. Raises UpstreamError.

        At most MAX_CANCELS are under way; one more waits its turn, no longer than the connect timeout.
        """
        try:
            async with asyncio.timeout(self._target.connect_timeout_s) as deadline, self._cancels:
                leg = await dial(self._target, self.tls, deadline)
                deadline.reschedule(asyncio.get_running_loop().time() + CANCEL_EOF_S)
                try:
                    leg.write(messages.cancel_request(pid, secret))
                    await leg.read_bytes(1)
                finally:
                    leg.transport.abort()
        except ClientGone:
            pass  # as it should be: the server says nothing and closes
        except UpstreamError as error:
            raise self._named(error) from error
        except TimeoutError as error:
            raise UpstreamError(f"{self._name}: a cancel request was not taken in time") from error

    @property
    def _verifies(self) -> bool:
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED

    def _named(self, error: UpstreamError) -> UpstreamError:
        text = f"{self._name}: {error}"
        return UpstreamError(text, sqlstate=error.sqlstate, public=error.public, answer=error.answer)
