"""Secrets that people and proxies show: API keys and join tokens. Made here, and kept as digests only.

They are 256 random bits, so one SHA-256 is enough to keep them by: there is no dictionary to try (unlike passwords).
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

KEY_MARK = "cfk"
JOIN_MARK = "cfj"
SECRET_BYTES = 32
_NOBODYS = hashlib.sha256(secrets.token_bytes(SECRET_BYTES)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A new secret: `text` is shown once, `digest` is kept."""

    id: str
    text: str
    digest: str


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_id(prefix: str) -> str:
    """An id such as `req_5f2c...`: 64 random bits."""
    return f"{prefix}_{secrets.token_hex(8)}"


def new_api_key() -> NewSecret:
    """`cfk_<id>_<secret>`."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES)
    return NewSecret(id=key_id, text=f"{KEY_MARK}_{key_id}_{secret}", digest=digest(secret))


def new_join_token() -> NewSecret:
    """`cfj_<secret>`, found again by its digest."""
    text = f"{JOIN_MARK}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return NewSecret(id="", text=text, digest=digest(text))


def split_api_key(text: str) -> tuple[str, str] | None:
    """The id and the secret of an API key, None where the text has not its form."""
    mark, key_id, secret = ([*text.split("_", 2), "", "", ""])[:3]
    return (key_id, secret) if mark == KEY_MARK and key_id and secret else None


def matches(secret: str, kept: str | None) -> bool:
    """Whether `secret` is the one whose digest was kept; takes as long where none was (an unknown id)."""
    same = hmac.compare_digest(digest(secret), _NOBODYS if kept is None else kept)
    return same and kept is not None
