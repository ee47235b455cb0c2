"""A value as one line of JSON, which is one line for every reader and harmless on every screen. Pure.

JSON leaves some characters as they are that other programs take for line ends (U+2028, U+0085), or that act on a
terminal (U+009B, U+202E). Here they are escapes: any JSON parser gives them back (RFC 8259, section 7).
"""

import json
from typing import Any

import msgspec

from control import harmless

_encode = msgspec.json.Encoder().encode


def line(value: Any) -> bytes:  # noqa: ANN401 whatever JSON can hold
    """`value` with its newline."""
    made = _encode(value)
    if not made.isascii() or b"\x7f" in made:
        made = harmless.replaced(made.decode(), _escape).encode()
    return made + b"\n"


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"
