"""What an account is called, the mark that shows it as ours, and how names and texts are spelled in SQL. Pure.

An account is a role that is made for one grant. Names come from people and tokens, so each is quoted wherever it
stands; the role's own name is of ASCII's harmless characters alone, because it ends up in logs and terminals, and
because databases of other encodings could not spell it. What it leaves out stands in the mark.
https://www.postgresql.org/docs/current/sql-syntax-lexical.html
"""

import hashlib
import re
import time
from datetime import UTC, datetime
from typing import Literal

import msgspec

from proxy.contract.grant import NAME_BYTES, Grant
from proxy.contract.settings import AccessProfile

PREFIX = "curfew_"
LATEST = 253_402_300_799
"""The end of the year 9999: what a datetime can say."""
_HARMLESS = re.compile(r"[^A-Za-z0-9._@-]")
_LONGEST_GRANT = 40
_MARK = "Curfew account "


class Mark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an account's comment says: whose it is and until when. Only who may drop the account may write it."""

    v: Literal[1] = 1
    grant: str
    person: str
    identity: Literal["ephemeral", "elevated"]
    until: float
    """The grant's end, seconds since the epoch."""
    finish_s: float = 0.0
    """How long behind it a statement may run that is let finish: whoever works with the account then is let be."""
    databases: list[str] = []
    """Those that the profile's statements have run in."""
    reassign_to: str = ""
    """Who gets what the account owns; the keeper where empty."""
    password: bool = False
    """The person's own role has a password of ours."""
    before: str | None = None
    """That role's VALID UNTIL of before, if it had one."""


def account_name(grant: Grant) -> str:
    """The account of `grant`: `curfew_<subject>_<grant>`, the subject shortened where 63 bytes are too few.

    Two grants may come to the same name where control's ids are not its usual ones; the mark tells them apart.
    """
    tail = _HARMLESS.sub("_", grant.id)
    if len(grant.id) > _LONGEST_GRANT or tail != grant.id:
        tail = hashlib.sha256(grant.id.encode()).hexdigest()[:32]
    room = NAME_BYTES - len(PREFIX) - 1 - len(tail)
    return f"{PREFIX}{_HARMLESS.sub('_', grant.person)[:room]}_{tail}"


def upstream_user(grant: Grant, profile: AccessProfile) -> str:
    """Who logs in to PostgreSQL for `grant`."""
    if profile.identity == "ephemeral":
        return account_name(grant)
    return grant.person if profile.identity == "elevated" else profile.login


def account_of(grant: Grant, profile: AccessProfile) -> str | None:
    """The account that a person's own login is elevated by, None where there is none."""
    return account_name(grant) if profile.identity == "elevated" else None


def identifier(name: str) -> str:
    """A name as SQL spells it, whatever is in it. Raises ValueError for a NUL, which no name has."""
    if "\0" in name:
        raise ValueError("a name with a zero byte")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL spells it, whatever `standard_conforming_strings` says. Raises ValueError for a NUL."""
    if "\0" in text:
        raise ValueError("a text with a zero byte")
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def timestamp(seconds: float) -> str:
    """A time as VALID UNTIL takes it."""
    return datetime.fromtimestamp(min(seconds, LATEST), UTC).isoformat(timespec="microseconds")


def mark_text(mark: Mark) -> str:
    """The comment for `mark`, of ASCII alone: any database can store it."""
    encoded = msgspec.json.encode(mark).decode()
    return _MARK + "".join(one if one.isascii() else _escaped(one) for one in encoded)


def _escaped(character: str) -> str:
    """JSON's spelling of a character beyond ASCII, a surrogate pair where it takes one (RFC 8259, section 7)."""
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def read_mark(comment: str | None) -> Mark | None:
    """The mark in a role's comment, None where it has none of ours."""
    if comment is None or not comment.startswith(_MARK):
        return None
    try:
        return msgspec.json.decode(comment.removeprefix(_MARK), type=Mark)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def is_over(until: float, *, now: float | None = None) -> bool:
    """Whether a grant with this end is over."""
    return until <= (time.time() if now is None else now)
