"""What a proxy knows since it joined, kept in `joined.json` so that a restart works while control is away.

Owns the file and the rules of what is forgotten: a revocation or an extension is, once its grant has expired by itself;
a lock, once it is over, lifted, or missing in a snapshot. Talks to nobody (see `proxy.control_link`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from proxy import files
from proxy.contract.directive import (
    AnyDirective,
    Extend,
    Extension,
    Heartbeat,
    Keys,
    Lock,
    Locked,
    Revocation,
    Revoke,
    Snapshot,
    Unlock,
)

FILE = "joined.json"


class MembershipError(Exception):
    """What is kept cannot be used. The text names the file and what to do."""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy's place in its fleet, and the newest that control has told it."""

    proxy: str
    public_key: str
    """The proxy's own, as control knows it."""
    issuer: str
    audience: str
    jwks: str
    cursor: int = 0
    """The last directive that was followed."""
    revoked: tuple[Revocation, ...] = ()
    extended: tuple[Extension, ...] = ()
    locks: tuple[Locked, ...] = ()
    locks_at: int = 0
    """When control wrote the last directive that `locks` heed, in nanoseconds since the epoch."""

    def after(self, directive: AnyDirective, *, now: float) -> "Membership":
        """What is known once `directive` was heard; this very object where nothing is new.

        A snapshot adds to the revocations and takes none away: a control that has lost some of its memory (a restored
        backup) must not give access back. Nor does it move the cursor, for what was missed comes behind it. Locks it
        replaces: one that is missing was lifted, and nobody would lift it once more.
        """
        news: dict[str, Any] = {"cursor": directive.cursor}
        match directive:
            case Heartbeat() if directive.cursor == self.cursor:
                return self
            case Snapshot():
                revoked = _merged(self.revoked, directive.revoked, now)
                locks = _in_force(directive.locks, now)
                news = {"jwks": directive.jwks, "revoked": revoked, "locks": locks, "locks_at": directive.at}
                news["extended"] = _latest(self.extended, directive.extended, now)
            case Keys():
                news["jwks"] = directive.jwks
            case Revoke():
                one = Revocation(
                    grant=directive.grant,
                    expires_at=directive.expires_at,
                    by=directive.by,
                    decided_at=directive.at,
                )
                news["revoked"] = _merged(self.revoked, [one], now)
            case Extend():
                news["extended"] = _latest(self.extended, [directive.extension], now)
            case Lock():
                locks = _in_force([*_without(self.locks, directive.lock.id), directive.lock], now)
                news |= {"locks": locks, "locks_at": directive.at}
            case Unlock():
                news |= {"locks": _in_force(_without(self.locks, directive.lock), now), "locks_at": directive.at}
            case _:
                pass
        return msgspec.structs.replace(self, **news)

    def snapshot(self, *, now: float) -> Snapshot:
        """What is known, as control would tell it."""
        return Snapshot(
            cursor=self.cursor,
            at=int(now * 1e9),
            revoked=[one for one in self.revoked if one.expires_at > now],
            jwks=self.jwks,
            locks=list(_in_force(self.locks, now)),
            extended=list(_latest(self.extended, (), now)),
        )


_decoder: msgspec.json.Decoder[Membership] = msgspec.json.Decoder(Membership)


def load(state_dir: Path, *, proxy: str, public_key: str) -> Membership | None:
    """What was kept; None before the join. Raises MembershipError where it is another proxy's, or unreadable."""
    path = state_dir / FILE
    again = "delete it and set proxy.control.join_token to join again"
    try:
        membership = _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MembershipError(f"{path}: {error.strerror}; the proxy must own its state directory") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MembershipError(f"{path}: cannot be read ({error}); {again}") from error
    if membership.proxy != proxy:
        raise MembershipError(f"{path}: joined as {membership.proxy!r}, but proxy.name is {proxy!r}; {again}")
    if membership.public_key != public_key:
        raise MembershipError(f"{path}: joined with another key than this proxy has now; {again}")
    return membership


def save(state_dir: Path, membership: Membership) -> None:
    """Keep it. Raises OSError."""
    files.replace(state_dir / FILE, msgspec.json.encode(membership), durable=True)


def begin(own: Path, home: Path, *, proxy: str, public_key: str) -> Membership | None:
    """What the process whose folder is `own` starts with: what it kept itself, and what the proxy in `home` did."""
    folders = dict.fromkeys((own, home))
    return _united(load(folder, proxy=proxy, public_key=public_key) for folder in folders)


def gather(home: Path, workers: Iterable[Path], *, proxy: str, public_key: str) -> None:
    """Keep for the whole proxy what any of its workers was told. Raises MembershipError and OSError."""
    known = load(home, proxy=proxy, public_key=public_key)
    folders = [*workers, home]
    united = _united(load(folder, proxy=proxy, public_key=public_key) for folder in folders)
    if united is not None and united != known:
        save(home, united)


def _united(known: Iterable[Membership | None]) -> Membership | None:
    """The newest of them, with the revocations and extensions of all: no decision is lost because another one heard it.

    Of locks, what the one knows that was told of them last: a lock in an older file may have been lifted since.
    """
    members = [one for one in known if one is not None]
    if not members:
        return None
    newest = max(members, key=lambda one: one.cursor)
    revoked, extended = newest.revoked, newest.extended
    for one in members:
        revoked = _merged(revoked, list(one.revoked), 0)
        extended = _latest(extended, one.extended, 0)
    told = max(members, key=lambda one: one.locks_at)
    return msgspec.structs.replace(newest, revoked=revoked, extended=extended, locks=told.locks, locks_at=told.locks_at)


def _merged(old: tuple[Revocation, ...], new: list[Revocation], now: float) -> tuple[Revocation, ...]:
    by_grant = {one.grant: one for one in (*new, *old)}  # the first decision about a grant is the one that counts
    return tuple(one for one in by_grant.values() if one.expires_at > now)


def _latest(old: Iterable[Extension], new: Iterable[Extension], now: float) -> tuple[Extension, ...]:
    """Of each grant the latest end: it never comes sooner again."""
    latest: dict[str, Extension] = {}
    for one in (*old, *new):
        known = latest.get(one.grant)
        if one.expires_at > (now if known is None else known.expires_at):
            latest[one.grant] = one
    return tuple(latest.values())


def _in_force(locks: Iterable[Locked], now: float) -> tuple[Locked, ...]:
    return tuple(one for one in locks if one.until is None or one.until > now)


def _without(locks: Iterable[Locked], lock_id: str) -> list[Locked]:
    return [one for one in locks if one.id != lock_id]
