"""What names, reasons and comments may hold. The rules that every text from outside has to pass."""

import re
import unicodedata
from ipaddress import IPv4Network, IPv6Network

from control.domain.results import Failure, Reason, Result, Success
from proxy.contract.grant import NAME_BYTES, parse_network

REASON_CHARACTERS = 2_000
THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
"""32 bytes have no other spelling: the last character's lowest two bits say nothing, and are 0."""
ADDRESSES = 8
"""A grant's networks travel in its token, which has TOKEN_BYTES in all."""


def printable(text: str, *, also: str = "") -> bool:
    """Whether `text` holds neither control characters (but those in `also`) nor lone surrogates.

    `str.isprintable` would refuse the no-break space and the joiners inside emoji, which people paste without knowing.
    """
    return not any(unicodedata.category(one) in ("Cc", "Cs") for one in text if one not in also)


def postgres_name(text: str, what: str) -> Result[str]:
    """A name as PostgreSQL keeps it: 1 to 63 bytes, nothing unprintable, no `/` (it parts TARGET from DATABASE)."""
    if not printable(text) or "/" in text:
        return Failure(Reason.INVALID, f"{what} holds a control character or '/'")
    if not 1 <= len(text.encode()) <= NAME_BYTES or text != text.strip():
        return Failure(Reason.INVALID, f"{what} must have 1 to {NAME_BYTES} bytes, and no space around it")
    return Success(text)


def prose(text: str, what: str, *, least: int = 1, most: int = REASON_CHARACTERS) -> Result[str]:
    """A reason or a comment: `least` to `most` characters after trimming; line breaks and tabs are welcome."""
    text = text.strip()
    if not least <= len(text) <= most:
        return Failure(Reason.INVALID, f"{what} must have {least} to {most} characters")
    if not printable(text, also="\n\r\t"):
        return Failure(Reason.INVALID, f"{what} holds a control character")
    return Success(text)


def thumbprint(text: str | None) -> Result[str | None]:
    """The certificate that a grant is bound to: its SHA-256, base64url without padding (RFC 8705, 3.1)."""
    if text is None or THUMBPRINT.fullmatch(text):
        return Success(text)
    return Failure(Reason.INVALID, "certificate must be a SHA-256 thumbprint in base64url: 43 characters, no padding")


def networks(texts: tuple[str, ...]) -> Result[tuple[IPv4Network | IPv6Network, ...]]:
    """The CIDRs that a grant is bound to."""
    if len(texts) > ADDRESSES:
        return Failure(Reason.INVALID, f"addresses: at most {ADDRESSES} networks")
    try:
        return Success(tuple(parse_network(text) for text in texts))
    except ValueError as error:
        return Failure(Reason.INVALID, f"addresses: {error}")
