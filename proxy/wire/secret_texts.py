"""What is a secret in a text that is no SQL: in a literal's content, or in a bound value (see `secrets`).

Owns the names that secrets have, the places of passwords in connection strings and URLs, and the judgement that no code
can be in a text. Pure; all patterns are linear, and repeats of groups are bounded, since each repeat costs memory.
"""

import re
from itertools import islice

from proxy.wire.tokens import Span, whole

MOST_PLACES = 1_000
"""In one text."""
SECRET_NAME = re.compile(
    r"(?:passw(?:or)?d|passphrase|secret|token|(?:api|access|secret|private|encryption|signing|master)_?key)\Z"
)
"""How the names of settings and options end that are secrets, in lower case."""
_CONNECTION = re.compile(
    r"(?:[\s\0]*+\w++[\s\0]*+=[\s\0]*+(?:'(?:[^'\\]|\\.){0,500}'|[^\s\0']*+)){1,100}[\s\0]*", re.DOTALL
)
"""libpq's keyword=value strings."""
_CONNECTION_PASSWORD = re.compile(
    r"(?i:password)[\s\0]*+=[\s\0]*+(?:'(?P<quoted>(?:[^'\\]|\\.){1,500})'|(?P<bare>[^\s\0']++))", re.DOTALL
)
_URI = re.compile(r"[\s\0]*+[A-Za-z][A-Za-z0-9+.-]*+://")
_URI_PASSWORD = re.compile(r"://[^\s/:@]*+:(?P<quoted>[^\s/@]++)@|[?&](?:ssl)?password=(?P<bare>[^\s&]++)")
_URL_PASSWORD = re.compile(r"://[^\s/:@]*+:(?P<bare>[A-Za-z0-9._~%!*+,=-]++)@")
"""In any text: only what no shell takes for more than a word."""
FORMATTED = re.compile(r"(?P<behind>password\s++'*+)?%(?:(?P<place>\d+)\$)?-?(?:\d+)?(?P<kind>[sIL%])", re.IGNORECASE)
"""The places of `format`."""
_NO_CODE = re.compile(r"""(?:[^\s();'"/-]|/(?!\*)|-(?!-))++""")
_ARMOUR = re.compile(
    r"\s*+-----BEGIN [A-Z ]+-----\s++(?:[A-Za-z0-9+/=]{40,}+\s++){1,1000}+"
    r"(?:[A-Za-z0-9+/=]++\s++){0,2}-----END[A-Z -]+\s*+"
)
"""A private key as text. Its lines are too long for words: no code is in it."""


def in_connection_string(text: str, *, free: bool) -> list[Span]:
    """The passwords in a text that is a connection string as a whole."""
    if _URI.match(text):
        passwords = _URI_PASSWORD
    elif _CONNECTION.fullmatch(text):
        passwords = _CONNECTION_PASSWORD
    else:
        return []
    spans = [found.span(str(found.lastgroup)) for found in passwords.finditer(text)]
    return [span for start, end in spans for span in secret(text, start, end, free=free)]


def in_urls(text: str) -> list[Span]:
    """The passwords in any text's URLs."""
    return [found.span("bare") for found in islice(_URL_PASSWORD.finditer(text), MOST_PLACES)]


def secret(text: str, start: int, end: int, *, free: bool) -> list[Span]:
    """The span of a literal's content, if it may be masked: where it is `free`, or no code can be in it.

    The NULs at its end are not its own: they stand for the first halves of its closing quotes (`Scanner.meant`).
    """
    content = text[start:end].rstrip("\0")
    literal = start > 0 and text[start - 1] == "'"
    if not content or not (free or _no_code(whole(content) if literal else content)):
        return []
    return [(start, start + len(content))]


def _no_code(content: str) -> bool:
    if _NO_CODE.fullmatch(content):
        return FORMATTED.fullmatch(content) is None
    return content.lstrip().startswith("-----BEGIN ") and _ARMOUR.fullmatch(content) is not None
