"""Authenticating to PostgreSQL: which of its requests are answered, and with what.

Owns the allow-list of methods (libpq's `require_auth`), channel binding, and one login's SCRAM. A rogue server gets
neither the password nor a hash of it by asking in another way, and cannot let us in without the proof that is due.
Never reads or writes a socket (see `proxy.login`).
"""

import hashlib
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from proxy.contract.settings import Method
from proxy.dial import UpstreamError
from proxy.errors import ProtocolViolation
from proxy.scram import BOUND, MECHANISM, MECHANISM_PLUS, UNBOUND, UNOFFERED, Exchange, KeyCache, ScramError
from proxy.upstream_tls import TlsError, server_end_point
from proxy.wire import messages

_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_REFUSED_METHODS = {2: "Kerberos V5", 6: "SCM", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}
_SALT_BYTES = 4


class CredentialError(UpstreamError):
    """The server refused the proxy's own login, or asked for what the proxy does not have: the operators' matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A login, and what it may be authenticated by."""

    user: str
    password: str | None = field(repr=False)
    methods: Collection[Method]
    """Where there is a password. A login without one must be let in without being asked."""
    channel_binding: Literal["disable", "prefer", "require"]


class Authentication:
    """One login's authentication. `done`: the server has let us in, by what it had to."""

    def __init__(self, terms: Terms, tls: ssl.SSLObject | None, keys: KeyCache) -> None:
        """`tls` is the connection's, if it is encrypted."""
        self._terms = terms
        self._tls = tls
        self._keys = keys
        self._exchange: Exchange | None = None
        self._bound = False
        self.asked = False
        """The server has asked for a password, and got its answer. It may ask once."""
        self.done = False

    async def answer(self, body: bytes) -> bytes:
        """What to send in answer to an authentication request, often nothing.

        Raises CredentialError for what is not answered, ProtocolViolation and ScramError for a server's faults.
        """
        if len(body) < 4 or self.done:  # noqa: PLR2004 the method's code
            raise ProtocolViolation("malformed or late authentication request")
        code, data = int.from_bytes(body[:4]), body[4:]
        if code == _OK:
            self._accept()
        elif code == _CLEARTEXT:
            return self._cleartext()
        elif code == _MD5:
            return self._md5(data)
        elif code == _SASL:
            return self._start_scram(data)
        elif code == _SASL_CONTINUE and self._exchange is not None:
            return messages.sasl_response(await self._exchange.final(data))
        elif code == _SASL_FINAL and self._exchange is not None:
            self._exchange.verify(data)
        else:
            raise self._unanswered(_REFUSED_METHODS.get(code, f"method {code}"))
        return b""

    def _accept(self) -> None:
        """Hold AuthenticationOk against what had to come before it."""
        if self._exchange is not None and not self._exchange.verified:
            raise ScramError("the server let us in without proving that it knows the password")
        if self._terms.channel_binding == "require" and not self._bound:
            raise CredentialError("the server let us in without the channel binding that `channel_binding` requires")
        if not self.asked and self._terms.password is not None and "none" not in self._terms.methods:
            raise CredentialError(
                "the server let us in without asking for the password, and so has not proved that it knows it; where "
                'that is meant, add "none" to `require_auth`, or leave the login\'s `password` out'
            )
        self.done = True

    def _cleartext(self) -> bytes:
        password = self._password("password", "a password in clear")
        if self._tls is None or self._tls.context.verify_mode is not ssl.CERT_REQUIRED:
            raise CredentialError(
                "the server asks for the password in clear; it gets that only over TLS with sslmode verify-ca or "
                "verify-full, so set one of them, or scram-sha-256 in the server's pg_hba.conf"
            )
        return messages.password_message(password.encode())

    def _md5(self, salt: bytes) -> bytes:
        password = self._password("md5", "md5")
        if len(salt) != _SALT_BYTES:
            raise ProtocolViolation(f"a salt of {len(salt)} bytes")
        return messages.password_message(_md5(password, self._terms.user, salt))

    def _start_scram(self, data: bytes) -> bytes:
        offered = data.split(b"\0")
        if not {MECHANISM.encode(), MECHANISM_PLUS.encode()} & set(offered):
            names = messages.sanitise(repr(offered)[:200])
            raise CredentialError(f"the server offers none but {names}, not {MECHANISM}")
        password = self._password("scram-sha-256", "SCRAM")
        mechanism, header, binding = self._binding(offered)
        self._exchange = Exchange(password, self._keys, header=header, binding=binding)
        return messages.sasl_initial(mechanism, self._exchange.first())

    def _binding(self, offered: list[bytes]) -> tuple[str, bytes, bytes]:
        """The mechanism, the header that says why it and not the other one, and the channel's data (as libpq)."""
        wanted = self._terms.channel_binding
        if MECHANISM_PLUS.encode() in offered and self._tls is None:
            raise ProtocolViolation(f"the server offers {MECHANISM_PLUS} without TLS")
        if MECHANISM_PLUS.encode() in offered and self._tls is not None and wanted != "disable":
            try:
                binding = server_end_point(self._tls)
            except TlsError as error:
                raise CredentialError(str(error)) from error
            self._bound = True
            return MECHANISM_PLUS, BOUND, binding
        if wanted == "require":
            raise CredentialError(f"the server does not offer {MECHANISM_PLUS}, which `channel_binding` requires")
        if MECHANISM.encode() not in offered:
            raise CredentialError(f"the server offers {MECHANISM_PLUS} alone, and `channel_binding` is 'disable'")
        return MECHANISM, UNOFFERED if self._tls is not None and wanted == "prefer" else UNBOUND, b""

    def _password(self, method: Method, name: str) -> str:
        """The password, for a method that may have it."""
        if self.asked:
            raise ProtocolViolation("the server asks for a password twice")
        self.asked = True
        if self._terms.password is None:
            raise CredentialError(f"the server asks for {name}, and the configuration has no password for this login")
        if method not in self._terms.methods:
            raise self._unanswered(name)
        if self._terms.channel_binding == "require" and method != "scram-sha-256":
            raise CredentialError(f"the server asks for {name}, where `channel_binding` requires {MECHANISM_PLUS}")
        return self._terms.password

    def _unanswered(self, name: str) -> CredentialError:
        answered = ", ".join(self._terms.methods)
        return CredentialError(f"the server asks for {name}; `require_auth` has {answered} alone")


def _md5(password: str, user: str, salt: bytes) -> bytes:
    """PostgreSQL's md5 answer: a hash of the salt and of what it stores (pg_md5_encrypt). Raises CredentialError."""
    try:
        stored = hashlib.md5(password.encode() + user.encode()).hexdigest()  # noqa: S324 the protocol's, if allow-listed
        return b"md5" + hashlib.md5(stored.encode() + salt).hexdigest().encode()  # noqa: S324 as above
    except ValueError as error:
        raise CredentialError(f"md5 is not to be had on this machine: {error}") from error
