"""What is known of a SQL text once it was parsed, or could not be. Data only, on both sides of the worker's pipe."""

import enum

import msgspec

MOST_NAMES = 2_000
"""Of tables, functions and commands each, for one text."""
MOST_BYTES = 256 * 1024
"""Longer texts are not parsed: a parser takes a hundred times their memory."""


class Label(enum.StrEnum):
    """Why less is known of a text than its syntax would say. Never a verdict on it."""

    UNPARSED = "unparsed"
    """The parser, which is that of PostgreSQL 17, does not take it."""
    CRASHED = "crashed"
    """The parser died of it."""
    TIMEOUT = "timeout"
    """The parser took too long."""
    DEEP = "deep"
    """It is nested too deeply to be looked through."""
    LONG = "long"
    """It is too long to be parsed."""
    FUNCTION = "function"
    """A call of a function by its number (the fast path), without any SQL."""
    CUT = "cut"
    """It has more names than are kept."""


class Parsed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A text's commands, the tables in it (and whether it changes them), its functions, each once, as written."""

    classes: list[str] = []
    tables: list[tuple[str, bool]] = []
    functions: list[str] = []
    label: Label | None = None
