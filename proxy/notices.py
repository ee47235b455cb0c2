"""What a person is told of their access while its session runs, and the words for why it ends.

Each is a message of ours between two of PostgreSQL's, and on record. The last word, behind which the connection is
closed, is `proxy.ending`'s. It decides nothing: whoever calls says that there is something to tell.
"""

from datetime import UTC, datetime

from proxy.contract.directive import Extension
from proxy.contract.grant import Grant
from proxy.contract.record import EndReason, GrantExtended, Notice
from proxy.relay import Relay
from proxy.wire import messages

_WHAT: dict[EndReason, str] = {
    "expired": "the grant has expired",
    "revoked": "the grant was revoked",
    "withdrawn": "the key that signed your grant was withdrawn",
    "killed": "the session was ended by an approver",
    "locked": "access was locked",
    "idle": "the session was idle for too long",
    "lease_lost": "the proxy has lost contact with the control service",
    "drained": "the proxy is shutting down",
}


def what_happened(reason: EndReason) -> str:
    """Why access has ended, as the person is told."""
    return _WHAT.get(reason, "the session was ended")


def moment(seconds: float) -> str:
    """A time, in seconds since the epoch, as a person reads it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class Notices:
    """One session's, from its relay's start on."""

    def __init__(self, relay: Relay, grant: Grant) -> None:
        self._relay = relay
        self._grant = grant

    def ends_in(self, seconds: float) -> None:
        """Warn that the grant ends so soon."""
        left = f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"  # noqa: PLR2004 seconds to a minute
        text = f"access to {self._grant.target} ends in {left} (grant {self._grant.id})"
        self._tell("WARNING", "01000", text, hint="Finish what you do, or ask for more time.")

    def may_finish(self, reason: EndReason, within_s: float) -> None:
        """Access has ended, but for what runs."""
        text = f"access to {self._grant.target} has ended: {what_happened(reason)} (grant {self._grant.id})"
        self._tell(
            "WARNING", "01000", text, hint=f"What runs may finish within {within_s:.0f} s; nothing else is started."
        )

    def extended(self, extension: Extension) -> None:
        """The grant's end has moved."""
        self.record(extension)
        text = f"access to {self._grant.target} now ends at {moment(extension.expires_at)}"
        self._tell("NOTICE", "00000", f"{text} (grant {self._grant.id}, extended by {extension.by})")

    def record(self, extension: Extension) -> None:
        """Note, without a word to the person, that the grant ends later than its token says."""
        expires_at = int(extension.expires_at * 1e9)
        self._relay.record(GrantExtended(grant=self._grant.id, expires_at=expires_at, by=extension.by))

    def _tell(self, severity: str, sqlstate: str, text: str, *, hint: str | None = None) -> None:
        self._relay.record(Notice(severity=severity, sqlstate=sqlstate, message=text))
        self._relay.tell(messages.notice_response(severity, sqlstate, text, hint=hint))
