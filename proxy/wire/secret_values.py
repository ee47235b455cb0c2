"""Masking of secrets among a statement's bound values, before they are recorded (see `secrets`).

Which values are secrets the statement's text says. What is masked is marked as masked. Pure.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from proxy.contract.record import Parameter
from proxy.wire.secret_texts import SECRET_NAME, in_connection_string, in_urls, secret
from proxy.wire.tokens import Span

MASK = "***"


class Bound(NamedTuple):
    """A parameter of a statement that is a secret."""

    number: int
    """As in `$1`; 0 where any one can hold a connection string."""
    named_by: int = 0
    """It is one only where the value of this parameter is a secret's name; 0 where it is one whatever there is."""


def mask_values(values: Sequence[Parameter], bound: Iterable[Bound]) -> tuple[list[Parameter], tuple[str, ...]]:
    """The bound `values` as they may be recorded, and what was masked in them."""
    masked, secrets = list(values), []
    for number, named_by in bound:
        if named_by and not (named_by <= len(values) and SECRET_NAME.search(_said(values[named_by - 1]).lower())):
            continue
        for index in range(len(masked)) if not number else range(number - 1, min(number, len(masked))):
            text = _said(masked[index])
            spans = _in_value(text) if not number else _as_a_whole(text, masked[index])
            if spans:
                secrets += [text[start:end] for start, end in spans]
                shown = _without(text, spans)
                masked[index] = msgspec.structs.replace(
                    masked[index], value=shown, base64=None, binary=False, masked=True
                )
    return masked, tuple(secrets)


def _said(value: Parameter) -> str:
    if value.base64 is not None:
        return base64.b64decode(value.base64).decode("utf-8", "backslashreplace")
    return "" if value.value is None else str(value.value)


def _in_value(text: str) -> list[Span]:
    return in_connection_string(text, free=False) or in_urls(text)


def _as_a_whole(text: str, value: Parameter) -> list[Span]:
    if value.base64 is not None and value.binary and not _is_text(value.base64):
        return [(0, len(text))]  # A key's bytes, and nothing that could be run.
    return secret(text, 0, len(text), free=False)


def _is_text(encoded: str) -> bool:
    try:
        base64.b64decode(encoded).decode()
    except UnicodeDecodeError:
        return False
    return True


def _without(text: str, spans: list[Span]) -> str:
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], MASK]
        at = end
    return "".join([*parts, text[at:]])
