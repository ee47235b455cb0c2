"""The tree of errors that end a session. The public text is constant for a class; what differs goes to the log.

Every one carries what the client is told (SQLSTATE, message, detail, hint; DESIGN.md 4.6) and the reason that the
session's last record gets. SQLSTATEs are those of PostgreSQL's appendix A, with the meaning it gives them.
"""

from proxy.contract.grant import Refusal
from proxy.contract.record import EndReason
from proxy.wire import messages


class SessionError(Exception):
    """A session cannot go on. `str(error)` is for the log alone."""

    sqlstate = "XX000"
    message = "internal error of the access proxy"
    hint: str | None = None
    reason: EndReason = "internal"

    def __init__(self, log_text: str = "", *, detail: str | None = None) -> None:
        super().__init__(log_text or self.message)
        self.detail = detail

    def as_message(self) -> bytes:
        """The ErrorResponse that refuses the client."""
        return messages.error_response("FATAL", self.sqlstate, self.message, self.detail, self.hint)


class ProtocolViolation(SessionError):  # noqa: N818 PostgreSQL's own name for 08P01
    """The client broke the wire protocol."""

    sqlstate = "08P01"
    message = "protocol violation"
    reason = "protocol"


class TlsRequired(SessionError):  # noqa: N818 says what is required
    """A startup packet in clear text where TLS is required."""

    sqlstate = "28000"
    message = "connections to this proxy must use TLS"
    hint = "Set sslmode=verify-full in the connection string."


class UserBarred(SessionError):  # noqa: N818 says what happened
    """A system user who may not connect by the unix socket."""

    sqlstate = "28000"
    message = "this system user may not connect to this proxy"


class UnsupportedProtocol(SessionError):  # noqa: N818 says what it is
    """A protocol version, or a kind of connection, that is not served."""

    sqlstate = "0A000"
    message = "unsupported frontend protocol"


class InvalidStartup(SessionError):  # noqa: N818 says what it is
    """A startup packet without what it must have."""

    sqlstate = "28000"
    message = "invalid startup packet"


class NotAdmitted(SessionError):  # noqa: N818 says what happened
    """The token was refused. One text for every cause, so that nobody learns which."""

    sqlstate = "28P01"
    message = "access refused: the token is not valid for this connection"
    hint = 'Ask for access with "curfew request", or get a fresh token with "curfew token".'

    def __init__(self, refusal: Refusal, log_text: str = "", *, grant: str | None = None) -> None:
        super().__init__(f"{refusal}: {log_text}" if log_text else str(refusal))
        self.refusal = refusal
        self.grant = grant


class NoToken(SessionError):  # noqa: N818 says what is missing
    """A client asked by OAUTHBEARER where tokens come from. It was told, and comes again with one."""

    sqlstate = "28000"
    message = "no token was given"
    hint = NotAdmitted.hint


class ReplicationNotAllowed(NotAdmitted):
    """A good token, but for a replication connection that is not allowed. Says what would allow it."""

    sqlstate = "42501"  # PostgreSQL's own, where a role may not start a walsender
    message = "replication connections are not allowed with this grant"

    def __init__(self, *, detail: str, hint: str, grant: str) -> None:
        super().__init__(Refusal.REPLICATION, detail, grant=grant)
        self.detail = detail
        self.hint = hint


class InvalidReplication(SessionError):  # noqa: N818 says what it is
    """A value of the startup parameter `replication` that PostgreSQL does not know either."""

    sqlstate = "22023"
    message = 'invalid value for parameter "replication"'
    hint = 'Valid values are: "false", 0, "true", 1, "database".'


class TooManySessions(SessionError):  # noqa: N818 says what it is
    """A limit on sessions is reached."""

    sqlstate = "53300"
    message = "too many sessions"
    hint = "Close a session, or try again in a while."


class NotCounted(SessionError):  # noqa: N818 says what happened
    """Control counts the sessions of this grant, and did not. libpq goes on to its next host on this SQLSTATE."""

    sqlstate = "57P03"
    message = "the sessions of this grant cannot be counted now"
    hint = "Try again in a while; if it lasts, tell the operators of the proxy. Your token is not at fault."


class UpstreamFailed(SessionError):  # noqa: N818 says what happened
    """PostgreSQL cannot be reached, refused the proxy's own login, or went away."""

    sqlstate = "08006"
    message = "the database cannot be reached through this proxy"
    hint = "Try again in a while; if it lasts, tell the operators of the proxy. Your token is not at fault."
    reason = "upstream"


class StartRefused(SessionError):  # noqa: N818 says what happened
    """PostgreSQL let the proxy in, and then refused what the client asked for: an unknown setting, a database."""

    reason = "upstream"

    def __init__(self, log_text: str, answer: bytes) -> None:
        super().__init__(log_text)
        self.answer = answer
        """The body of PostgreSQL's ErrorResponse."""

    def as_message(self) -> bytes:
        """As it came, behind the AuthenticationOk that PostgreSQL has before it (row 25 of PROTOCOL.md)."""
        return messages.AUTHENTICATION_OK + messages.error_as_it_came(self.answer)


class JournalFailed(SessionError):  # noqa: N818 says what happened
    """The record could not be written, so the statement was not forwarded."""

    sqlstate = "58030"
    message = "the statement was not executed: its record could not be written"
    hint = "Tell the operators of the proxy: the journal's disk is full or failing."
    reason = "journal"


class GrantEnded(SessionError):  # noqa: N818 says what happened
    """The session was ended from outside: its grant's end, a revocation, a kill, a drain."""

    sqlstate = "57P01"
    message = "the session was ended"

    def __init__(self, reason: EndReason, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.message = message
        self.hint = hint
        self.reason = reason
        if reason == "idle":
            self.sqlstate = "57P05"  # idle_session_timeout, PostgreSQL's own


class ClientGone(Exception):  # noqa: N818 says what happened
    """The client's socket closed or broke; there is nobody to tell."""


class AuthenticationTimeout(SessionError):  # noqa: N818 says what happened
    """The client was not authenticated in time."""

    sqlstate = "57014"
    message = "canceling authentication due to timeout"
