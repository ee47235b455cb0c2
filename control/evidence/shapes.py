"""What texts are, remembered: of all that are the same but for their values, one has to be parsed."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

import msgspec

from control.evidence.names import tails
from control.evidence.parsed import Label, Parsed
from control.recent import Recent
from control.store.index.writing import Term

KNOWN_TEXTS: Final = 50_000
KNOWN_CHARACTERS: Final = 2_000
"""Texts that are remembered, and the longest of them."""
_NUMBER = re.compile(r"\b[0-9]+\b")
_LITERAL = re.compile(r"'[^']*'")
_QUOTING = re.compile(r'["$\\]|[uU]&')
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """What a text is, as the index keeps it."""

    parsed: Parsed
    packed: bytes
    digest: bytes
    terms: tuple[Term, ...]
    """By what a statement with it is found."""


def shape_of(parsed: Parsed) -> Shape:
    """What was parsed, as the index keeps it."""
    packed = _encode(parsed)
    digest = hashlib.blake2b(packed, digest_size=16).digest()
    return Shape(parsed=parsed, packed=packed, digest=digest, terms=tuple(sorted(_terms(parsed))))


def _terms(known: Parsed) -> set[Term]:
    terms: set[Term] = {("class", name) for name in known.classes}
    for name, written in known.tables:
        for part in tails(name):
            terms.add(("table", part))
            if written:
                terms.add(("written", part))
    terms |= {("function", part) for name in known.functions for part in tails(name)}
    if known.label is not None:
        terms.add(("label", known.label.value))
    return terms


LABELLED: Final = {label: shape_of(Parsed(label=label)) for label in Label}


class Shapes:
    """The shapes of texts lately seen."""

    def __init__(self) -> None:
        self._texts: Recent[str, Shape] = Recent(KNOWN_TEXTS)
        self._alike: Recent[str, Shape] = Recent(KNOWN_TEXTS)
        self._own: Recent[bytes, Shape] = Recent(KNOWN_TEXTS)

    def find(self, sql: str) -> Shape | str:
        """The text's shape or, where a text like it has to be parsed first, what all texts like it have in common."""
        if (shape := self._texts.get(sql)) is not None:
            return shape
        if len(sql) > KNOWN_CHARACTERS:
            return sql
        common = alike(sql)
        if (shape := self._alike.get(common)) is None:
            return common
        self._texts.put(sql, shape)
        return shape

    def learn(self, common: str | None, parsed: Parsed) -> Shape:
        """What the texts that have this in common are."""
        shape = shape_of(parsed)
        if (known := self._own.get(shape.digest)) is not None:
            shape = known
        else:
            self._own.put(shape.digest, shape)
        if common is not None and len(common) <= KNOWN_CHARACTERS:
            self._alike.put(common, shape)
        return shape


def alike(sql: str) -> str:
    """The text with other values in it: the same for all that parse to the same commands and names.

    A number that stands by itself is a number, or in a literal, a comment or a quoted name; so texts with quoted names,
    dollar quotes and escapes are only like themselves. Without these and without comments, what is between two
    apostrophes is a literal, and which one makes no difference to commands and names.
    """
    if _QUOTING.search(sql):
        return sql
    if "'" in sql and "--" not in sql and "/*" not in sql:
        sql = _LITERAL.sub("''", sql)
    return _NUMBER.sub("0", sql)
