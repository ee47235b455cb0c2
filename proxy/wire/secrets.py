"""Masking of secrets in SQL, and in bound values, before they are recorded (DESIGN.md 4.4).

Owns the question which parts of a statement are secrets:

* the literal behind the word PASSWORD (CREATE and ALTER ROLE or USER), and options of a server or user mapping whose
  names end as `SECRET_NAME` says;
* what a setting of such a name is set to: SET, ALTER ROLE, DATABASE or SYSTEM ... SET, set_config;
* the password in a literal that is a connection string (CREATE SUBSCRIPTION, dblink), and that of a URL in any literal
  or comment;
* keys of pgcrypto (`_KEYS`), and the password that `crypt` takes;
* the literal that `format` (`PASSWORD %L`) or `quote_literal` puts behind the word PASSWORD.

It looks into what strings and comments hold, too, as in `DO $$ ... $$`. Where such a key or setting is a bound value,
or a statement calls dblink or pglogical with values that are connection strings, `mask_values` masks those.

A mask must not become a place to hide code in. So tokens are read exactly as PostgreSQL reads them (`tokens`), and
where the reading hangs on standard_conforming_strings, only what is a secret both ways is masked. Where a literal or
value could still be run as code (anywhere but in CREATE and ALTER ROLE and their like, at the top), it is masked only
if no code can be in it: no white space, parentheses, semicolons, quotes or comments. So a passphrase with blanks is
recorded. In some encodings of clients (SJIS, BIG5, GBK) a backslash can be the second byte of a letter, and nobody here
knows whether it is: where one stands behind a byte that is no ASCII, nothing but a word is masked. Work is bounded:
what lies beyond, in a statement that no person writes, is left as it is.

PostgreSQL's error messages quote what they do not understand, so a secret can come back in one: `hide` takes it out.

Never parses SQL, and never raises.
"""

import re
from collections.abc import Iterable
from itertools import islice

from proxy.wire.secret_texts import FORMATTED, MOST_PLACES, SECRET_NAME, in_connection_string, in_urls, secret
from proxy.wire.secret_values import MASK, Bound
from proxy.wire.tokens import (
    BORING,
    COMMENTS,
    LITERALS,
    SPACE,
    Scanner,
    Span,
    Token,
    name_at,
    word_at,
)

_DEEPEST = 8
"""Strings within strings within strings."""


# All patterns are linear, and repeats of groups are bounded, since each repeat costs memory.
_MARKS = ("password", "create", "alter", "://", "set", "crypt", "hmac", 'u&"')
"""What matters begins with one of these, in lower case."""
_KEYS = {
    **dict.fromkeys(("pgp_sym_encrypt", "pgp_sym_encrypt_bytea", "pgp_sym_decrypt", "pgp_sym_decrypt_bytea"), (1,)),
    **dict.fromkeys(("pgp_pub_decrypt", "pgp_pub_decrypt_bytea"), (1, 2)),
    **dict.fromkeys(("encrypt", "encrypt_iv", "decrypt", "decrypt_iv", "hmac"), (1,)),
    "crypt": (0,),
}
"""Which arguments of pgcrypto's functions are secrets, the first one being 0."""
_SET_CONFIG = "set_config"
_ELSEWHERE = frozenset({"select", "with", "table", "values", "case"})
"""Behind one of these, what is in an argument is no key."""

_PASSWORD = re.compile(r"""password"?+\s*+(?:=(?!\s*\$\d)|--|/\*|\\|%(?:\d+\$)?l|[a-z&]{0,2}['"$])|://[^\s/@]*+@""")
_OPTION = re.compile(r"""(?:passw(?:or)?d|passphrase|secret|token|key)"?+\s*+(?:--|/\*|[a-z&]{0,2}['"$])""")
_SETTING = re.compile(
    r"""(?:passw(?:or)?d|passphrase|secret|token|key)"?+\s*+(?:=(?!\s*\$\d)|to(?![a-z0-9_])|--|/\*)"""
)
_CALL = re.compile(r"""(?:crypt|hmac)[a-z_]*+"?+\s*+(?:\(|--|/\*)""")
"""These four are searched in lower case. An ordinary statement on a column of such a name has no match."""

_QUOTED_CALL = re.compile(r"\s*\|\|\s*(?:pg_catalog\s*\.\s*)?quote_(?:literal|nullable)\s*\(\s*", re.IGNORECASE)
_MOST_ARGUMENTS = 200
_HALF_A_LETTER = re.compile(r"(?:[^\x00-\x7f]|\\x[89a-f][0-9a-f])\\")
"""A backslash behind a byte that is no ASCII, also where that byte was no UTF-8 and stands here as `\\xNN`."""
_WORD = re.compile(r"[A-Za-z0-9_]+")
_BARE = re.compile(r"[+-]?[\w.$]+")
_NO_VALUES = frozenset({"default", "from"})
_MOST_PARAMETERS = 65_535
_LONGEST_PARAMETER = 6
"""Characters: `$65535`."""
_SHORT = 4
"""Characters: what is shorter could be a part of any word."""


def mask(sql: str) -> tuple[str, tuple[str, ...], tuple[Bound, ...]]:
    """`sql` with its secrets as `***`; the secrets; and which of its parameters are some, too."""
    if "'" not in sql and "$" not in sql and "." not in sql and '"' not in sql and ":" not in sql:
        return sql, (), ()  # Nothing in it is a literal, a parameter, a URL, or a name of several parts.
    lower = sql.lower()
    if not _hints(lower):
        return sql, (), ()
    connects = (Bound(0),) if "$" in sql and "dblink" in lower else ()
    if not _suspicious(lower):
        return sql, (), connects
    lower = _lower(sql)
    parts, secrets, at = [], [], 0
    ambiguous = _HALF_A_LETTER.search(sql) is not None
    spans, bound = _secrets(sql, lower)
    for start, end in sorted(spans):
        if start >= at and (not ambiguous or _WORD.fullmatch(sql, start, end)):
            parts += [sql[at:start], MASK]
            secrets.append(sql[start:end])
            at = end
    found = () if ambiguous else tuple(sorted({one for _, one in bound}))
    return "".join([*parts, sql[at:]]), tuple(secrets), found + connects


def hide(message: str, secrets: Iterable[str]) -> str:
    """PostgreSQL's `message` without these secrets, as they were written and as they were meant."""
    forms = {form for secret in secrets for form in (secret, secret.replace("''", "'"))}
    for form in sorted(forms, key=len, reverse=True):
        # A short one only where it is quoted as a whole.
        around = ("", "") if len(form) >= _SHORT else ("(?<=['\"$])", "(?=['\"$]|$)")
        message = re.sub(re.escape(form).join(around), MASK, message)
    return message


def _lower(text: str) -> str:
    """`text` in lower case, each character at its place: some capitals have a longer small letter."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(char.lower() if char.isascii() else char for char in text)


def _hints(lower: str) -> bool:
    """Whether anything in `lower` could be a secret: plain searches, since nearly every statement sees them."""
    return (
        "pass" in lower
        or "://" in lower
        or "crypt" in lower
        or "hmac" in lower
        or ("set" in lower and ("secret" in lower or "token" in lower or "key" in lower or "_con" in lower))
        or ("options" in lower and ("secret" in lower or "token" in lower or "key" in lower))
        or ("$" in lower and "dblink" in lower)
        or ('"' in lower and 'u&"' in lower)
    )


def _suspicious(lower: str) -> bool:
    """Whether one is to be looked for."""
    return bool(
        (("password" in lower or "://" in lower) and _PASSWORD.search(lower))
        or ("set" in lower and (_SET_CONFIG in lower or _SETTING.search(lower)))
        or ("options" in lower and _OPTION.search(lower))
        or (("crypt" in lower or "hmac" in lower) and _CALL.search(lower))
        or 'u&"' in lower
    )


_Found = tuple[set[Span], set[tuple[int, Bound]]]
"""Spans; and parameters, with their places in the text."""


def _secrets(sql: str, lower: str) -> _Found:
    standard = _Search(backslashes=False)
    spans = set(standard.spans(sql, lower, 0))
    if not (spans or standard.bound) or "\\'" not in sql:
        return spans, standard.bound
    other = _Search(backslashes=True)
    other_spans = set(other.spans(sql, lower, 0))
    if not other.whole:
        return spans, standard.bound  # PostgreSQL would run nothing of it
    if not standard.whole:
        return other_spans, other.bound
    return spans & other_spans, standard.bound & other.bound


class _Marks:
    """Where the next mark of a text is."""

    __slots__ = ("_lower", "_next")

    def __init__(self, lower: str) -> None:
        self._lower = lower
        self._next = [-1] * len(_MARKS)

    def after(self, at: int) -> int:
        """The first mark's place from `at` on, or the text's end. `at` may only grow."""
        for index, mark in enumerate(_MARKS):
            if self._next[index] < at:
                found = self._lower.find(mark, at)
                self._next[index] = found if found >= 0 else len(self._lower)
        return min(self._next)


class _Search:
    """One search for the spans that are secrets, in one reading of the text."""

    __slots__ = ("_scanner", "bound", "whole")

    def __init__(self, *, backslashes: bool) -> None:
        self._scanner = Scanner(backslashes=backslashes)
        self.whole = True
        """No string or comment was left open."""
        self.bound: set[tuple[int, Bound]] = set()

    def spans(self, text: str, lower: str, depth: int) -> list[Span]:
        """The secrets in `text`, which is `depth` strings deep."""
        found: list[Span] = []
        marks = _Marks(lower)
        expecting = account = False
        first = True  # of its statement
        at = 0
        while at < len(text) and self._scanner.left > 0:
            skipped = SPACE.match(text, at) if expecting or account else BORING.match(text, at, marks.after(at))
            if skipped is not None:
                at, first = skipped.end(), first and skipped[0].isspace()
                continue
            kind, start, end, at = self._scanner.token(text, at)
            self.whole = self.whole and (depth > 0 or at <= len(text))
            free = account and depth == 0
            if expecting and (kind in LITERALS or (kind == "name" and account)):
                found += secret(text, start, end, free=free)
            elif kind in LITERALS or kind in COMMENTS:
                found += self._within(kind, text[start:end], start, depth, free=free)
                if kind in LITERALS and "password" in lower[start:end]:
                    found += self._put_together(text, start, end, at)
            elif kind in {"word", "name"}:
                name, at = (word_at(text, start, end), at) if kind == "word" else name_at(text, start, end, at)
                expecting = name.endswith("password") or (account and SECRET_NAME.search(name) is not None)
                if name == "set" and kind == "word":
                    values = self._setting(text, at, bare=depth == 0 and (first or account), alone=first)
                    found += values or []
                    account = account and values is None
                elif name in _KEYS or name == _SET_CONFIG:
                    found += self._call(text, name, at, depth)
            else:
                account = (account or first) if kind == "account" else account and text[start] != ";"
                expecting = expecting and account and text[start] == "="
            first = text[start] == ";" if kind == "other" else first and kind in COMMENTS
        return found

    def _within(self, kind: str, inner: str, start: int, depth: int, *, free: bool) -> list[Span]:
        # Secrets in what a literal or comment holds.
        if depth == _DEEPEST or not _hints(inner.lower()):
            return []
        if kind in {"quoted", "escape", "exact"}:
            inner = self._scanner.meant(kind, inner)
        lower = _lower(inner)
        spans = in_connection_string(inner, free=free) or [*self.spans(inner, lower, depth + 1), *in_urls(inner)]
        return [(start + one, start + other) for one, other in spans]

    def _setting(self, text: str, at: int, *, bare: bool, alone: bool) -> list[Span] | None:
        # What a setting of a secret name is set to; None where none is. `bare`: words and numbers are values, too, and
        # no expressions. `alone`: its name need not be of two parts, since nothing but a setting can be meant.
        name, at = self._setting_name(text, at)
        if SECRET_NAME.search(name) is None or not (alone or "." in name):
            return None
        _, start, end, at = self._next(text, at)
        if text[start:end] != "=" and text[start:end].lower() != "to":
            return None
        found: list[Span] = []
        for _ in range(_MOST_ARGUMENTS):
            kind, start, end, at = self._next(text, at)
            value = _BARE.match(text, start) if bare and kind in {"word", "other"} else None
            if kind in LITERALS or (kind == "name" and bare):
                found += secret(text, start, end, free=False)
            elif value is not None and value[0].lower() not in _NO_VALUES:
                at = value.end()
                kind, start, end, _ = self._next(text, at)
                if kind != "end" and text[start:end] not in {",", ";"}:
                    break  # It is no value, and this no setting.
                found.append(value.span())
            else:
                break
            _, start, end, at = self._next(text, at)
            if text[start:end] != ",":
                break
        return found

    def _setting_name(self, text: str, at: int) -> tuple[str, int]:
        # The name behind SET, in lower case, and where it ends.
        parts: list[str] = []
        for _ in range(_MOST_ARGUMENTS):
            kind, start, end, behind = self._next(text, at)
            if kind == "word":
                part = text[start:end].lower()
            elif kind == "name":
                part, behind = name_at(text, start, end, behind)
            else:
                break
            at = behind
            _, start, end, behind = self._next(text, at)
            if text[start:end] == ".":
                parts.append(part)
                at = behind
            elif parts or part not in {"local", "session"}:
                return ".".join([*parts, part]), at
        return "", at

    def _call(self, text: str, name: str, at: int, depth: int) -> list[Span]:
        # The secrets among a function's arguments; those that are parameters are noted.
        _, start, end, at = self._next(text, at)
        if text[start:end] != "(":
            return []
        operands = self._operands(text, at)
        places, named_by = _KEYS.get(name, ()), 0
        if name == _SET_CONFIG and operands and operands[0][0] == 0:
            _, (kind, start, end, _) = operands[0]
            if kind == "parameter":
                places, named_by = (1,), _number(text, start, end)
            elif SECRET_NAME.search(self._scanner.meant(kind, text[start:end]).replace("\0", "").lower()):
                places = (1,)
        found: list[Span] = []
        for place, (kind, start, end, _) in operands:
            if place not in places:
                continue
            if kind != "parameter":
                found += secret(text, start, end, free=False) if not named_by else []
            elif depth == 0 and 0 < (number := _number(text, start, end)) <= _MOST_PARAMETERS:
                self.bound.add((start, Bound(number, named_by)))
        return found

    def _operands(self, text: str, at: int) -> list[tuple[int, Token]]:
        # The literals and parameters that are arguments of the call whose parenthesis ends at `at`, or from which one
        # is made (`decode('...', 'hex')`), each with its argument's number.
        found: list[tuple[int, Token]] = []
        commas = [0]
        for _ in range(_MOST_ARGUMENTS):
            token = kind, start, end, at = self._next(text, at)
            if kind in LITERALS or kind == "parameter":
                if not any(commas[1:]):
                    found.append((commas[0], token))
            elif kind == "word":
                if text[start:end].lower() in _ELSEWHERE:
                    break
            elif (char := text[start:end]) in {"(", "["}:
                commas.append(0)
            elif char in {")", "]"}:
                commas.pop()
            elif char == ",":
                commas[-1] += 1
            if not commas or kind == "end" or text[start:end] == ";":
                break
        return found

    def _next(self, text: str, at: int) -> Token:
        # The next token that is neither white space nor a comment; an empty one at the end.
        while at < len(text) and self._scanner.left > 0:
            skipped = SPACE.match(text, at)
            if skipped is not None:
                at = skipped.end()
                continue
            token = self._scanner.token(text, at)
            if token[0] not in COMMENTS:
                return token
            at = token[3]
        return "end", len(text), len(text), len(text)

    def _put_together(self, text: str, start: int, end: int, at: int) -> list[Span]:
        # The secrets that the server puts into the literal whose content is from `start` to `end`; it ends at `at`.
        content, call = text[start:end], _QUOTED_CALL.match(text, at)
        if call is not None and content.rstrip()[-8:].lower() == "password" and call.end() < len(text):
            kind, start, end, _ = self._scanner.token(text, call.end())
            return secret(text, start, end, free=False) if kind in LITERALS else []
        found, number = [], 0
        for place in islice(FORMATTED.finditer(content), MOST_PLACES):
            if place["kind"] != "%":
                number = int(place["place"] or number + 1)
                quoted = place["kind"] in "lL" or (place["behind"] and place["behind"][-1] == "'")
                if place["behind"] and quoted:
                    found += self._argument(text, at, number)
        return found

    def _argument(self, text: str, at: int, number: int) -> list[Span]:
        # The literal that is the argument so many commas behind `at`.
        depth, last = 0, ","
        for _ in range(_MOST_ARGUMENTS):
            skipped = SPACE.match(text, at)
            at = skipped.end() if skipped is not None else at
            if at >= len(text) or self._scanner.left <= 0:
                break
            kind, start, end, at = self._scanner.token(text, at)
            if kind in LITERALS and depth == number == 0 and last == ",":
                return secret(text, start, end, free=False)
            if kind not in COMMENTS:
                last = text[start] if kind == "other" else kind
                depth += (last in {"(", "["}) - (last in {")", "]"})
                number -= last == "," and depth == 0
            if depth < 0 or number < 0 or last == ";":
                break
        return []


def _number(text: str, start: int, end: int) -> int:
    """Of the parameter there; 0 where no statement has so many."""
    return int(text[start + 1 : end]) if end - start <= _LONGEST_PARAMETER else 0
