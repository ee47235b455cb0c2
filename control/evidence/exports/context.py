"""What every line of an export says of its session: who, on what grant, where. Pure."""

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from control.domain.sessions import Session, State
from control.evidence.timeline import Item

STARTED = ("reason", "approved_by", "upstream_user", "identity", "account", "backend_pid", "backend_start", "server")
STARTED_FROM = ("via", "uid", "tls", "replication")


@dataclass(slots=True, kw_only=True)
class Context:
    """A session's facts. `take` its items in order: the first one says more than the summary does."""

    session: Session
    version: str
    """Curfew's own."""
    started: Item = field(default_factory=dict)
    """What the session's first record says besides: why, who approved it, who is logged in where."""
    said_user: str | None = None
    """Of a refused connection: the name that it came with. Nobody has proven it."""

    def take(self, item: Item) -> bool:
        """Learn from an item; whether there was anything to learn."""
        if item["kind"] == "start":
            self.started = {name: item.get(name) for name in (*STARTED, *STARTED_FROM)}
            return True
        if item["kind"] == "refused" and self.session.state is State.REFUSED:
            self.said_user = item.get("user")
            return True
        return False

    def facts(self) -> dict[str, Any]:
        """All of them that are known: each event has them, so that one alone can be judged."""
        session = self.session
        known = {
            "id": session.id,
            "proxy": session.proxy,
            "person": session.person,
            "grant": session.grant,
            "target": session.target,
            "database": session.database,
            "profile": session.profile,
            "said_user": self.said_user,
        } | self.started
        return {name: value for name, value in known.items() if value is not None}

    @property
    def place(self) -> str:
        """TARGET/DATABASE, as people name it."""
        named = [part for part in (self.session.target, self.session.database) if part]
        return "/".join(named) or "-"

    @staticmethod
    def time(at: str) -> int:
        """An item's moment in milliseconds since the epoch."""
        return round(datetime.fromisoformat(at).timestamp() * 1_000)

    def event_id(self, item: Item) -> str:
        """What names this item among those of all sessions. What is no record has no number."""
        if item["seq"] is None:
            return f"{self.session.id}:{item['kind']}:{item['at']}"
        chain = self.session.reaped_in if item["kind"] == "reaped" else None
        return f"{chain or self.session.id}:{item['seq']}"

    @property
    def server(self) -> tuple[str | None, int | None]:
        """The host and port that the backend is on, where the target has several."""
        text = self.started.get("server")
        if not text:
            return None, None
        host, _, port = text.rpartition(":")
        return host.strip("[]") or text, int(port) if port.isascii() and port.isdecimal() else None


def address(text: str | None) -> str | None:
    """`text` where it is an IP address: a field of that type must hold nothing else."""
    try:
        return None if text is None else str(ipaddress.ip_address(text))
    except ValueError:
        return None


def milliseconds(seconds: float | None) -> int | None:
    """As whole milliseconds."""
    return None if seconds is None else round(seconds * 1_000)
