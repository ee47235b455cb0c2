"""Masking of passwords in SQL before it is recorded (DESIGN.md 4.4).

Owns the question which parts of a statement are secrets: the literal behind the word PASSWORD (CREATE and ALTER ROLE
or USER, the options of a user mapping), the password in a literal that is a connection string (CREATE SUBSCRIPTION,
dblink), that of a URL in any literal or comment, and the literal that `format` (`PASSWORD %L`) or `quote_literal` puts
behind the word. It looks into what strings and comments hold, too, as in `DO $$ ... $$`.

A mask must not become a place to hide code in. So tokens are read exactly as PostgreSQL's scan.l reads them, and where
the reading hangs on standard_conforming_strings, only what is a secret both ways is masked. Where a literal could
still be run as code (anywhere but in CREATE and ALTER ROLE and their like, at the top), it is masked only if it has
no white space, parentheses or semicolons. In some encodings of clients (SJIS, BIG5, GBK) a backslash can be the second
byte of a letter, and nobody here knows whether it is: where one stands behind a byte that is no ASCII, nothing but a
word is masked. Work is bounded (`_MOST_TOKENS` and its like): what lies beyond, in a statement that no person writes,
is left as it is.

PostgreSQL's error messages quote what they do not understand, so a secret can come back in one: `hide` takes it out.

Never parses SQL, and never raises.
"""

import re
from collections.abc import Iterable
from itertools import islice

MASK = "***"

_DEEPEST = 8
"""Strings within strings within strings."""
_MOST_TOKENS = 200_000
"""Tokens of interest in one statement: a statement of 100 MB must not hold up the other sessions."""


# All patterns are linear, and repeats of groups are bounded, since each repeat costs memory.
_START = "A-Za-z_\x80-\U0010ffff"
_PART = _START + "0-9$"
_MARKS = ("password", "create", "alter", "://")
"""What matters begins with one of these, in lower case."""
_SUSPECT = re.compile(r"""password"?+\s*+(?:=(?!\s*\$\d)|--|/\*|\\|%(?:\d+\$)?l|[a-z&]{0,2}['"$])|://[^\s/@]*+@""")
"""Searched in lower case. An ordinary statement on a column of that name has no match."""
_SPACE = re.compile(r"[ \t\n\r\f\v\0]+")
_BORING = re.compile(
    rf"""(?:
      [^{_START}'"$/;-]+
    | (?![eE]')[{_START}][{_PART}]*
    | '[^'\\]*(?:''[^'\\]*){{0,50}}'(?!')
    | "[^"]*"(?!")
    | \$\d+ | /(?!\*) | -(?!-)
    ){{1,1000}}""",
    re.VERBOSE,
)
"""Many tokens at once, for where no mark is."""
_TOKEN = re.compile(
    rf"""
      (?P<account>(?<![{_PART}])(?i:create|alter)
        (?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r]|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/){{1,100}}+
        (?i:role|user|group|server|subscription)(?![{_PART}]))
    | (?P<line>--)
    | (?P<block>/\*)
    | (?P<escape>[eE]')
    | (?P<quoted>[nN]?')
    | (?P<exact>(?:[uU]&|[bBxX])')
    | (?P<name>(?:[uU]&)?")
    | (?P<dollar>\$(?:[{_START}][{_START}0-9]*)?\$)
    | (?P<word>[{_START}][{_PART}]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r"[^']*(?:''[^']*){0,1000}")
_ESCAPE = re.compile(r"[^'\\]*(?:(?:\\(?:.|\Z)|'')[^'\\]*){0,1000}", re.DOTALL)
_NAME = re.compile(r'[^"]*(?:""[^"]*){0,1000}')
_LINE_END = re.compile(r"[\n\r]|\Z")
_BLOCK_EDGE = re.compile(r"/\*|\*/")
_CONTINUED = re.compile(r"(?:[ \t\f\v]|--[^\n\r]*+){0,500}[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r]){0,500}'")
"""`quotecontinue`: over a line's end, a string goes on in the next one, in the same way of escaping."""

_PAIRS = re.compile(r"(?:''){1,1000}")
_ESCAPED_PAIRS = re.compile(r"(?:''|\\.){1,1000}", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "b": " "}

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
_FORMATTED = re.compile(r"(?P<behind>password\s++'*+)?%(?:(?P<place>\d+)\$)?-?(?:\d+)?(?P<kind>[sIL%])", re.IGNORECASE)
"""The places of `format`."""
_QUOTED_CALL = re.compile(r"\s*\|\|\s*(?:pg_catalog\s*\.\s*)?quote_(?:literal|nullable)\s*\(\s*", re.IGNORECASE)
_MOST_ARGUMENTS = 200
_MOST_PLACES = 1_000
"""In one literal."""
_HALF_A_LETTER = re.compile(r"(?:[^\x00-\x7f]|\\x[89a-f][0-9a-f])\\")
"""A backslash behind a byte that is no ASCII, also where that byte was no UTF-8 and stands here as `\\xNN`."""
_WORD = re.compile(r"[A-Za-z0-9_]+")
_NO_CODE = re.compile(r"[^\s();]+")
_SHORT = 4
"""Characters: what is shorter could be a part of any word."""

_Span = tuple[int, int]
_LITERALS = frozenset({"quoted", "exact", "escape", "dollar"})


def mask(sql: str) -> tuple[str, tuple[str, ...]]:
    """`sql` with its secrets as `***`, and the secrets."""
    lower = sql.lower()
    if ("password" not in lower and "://" not in lower) or not _SUSPECT.search(lower):
        return sql, ()
    lower = _lower(sql)
    parts, secrets, at = [], [], 0
    ambiguous = _HALF_A_LETTER.search(sql) is not None
    for start, end in sorted(_secrets(sql, lower)):
        if start >= at and (not ambiguous or _WORD.fullmatch(sql, start, end)):
            parts += [sql[at:start], MASK]
            secrets.append(sql[start:end])
            at = end
    return "".join([*parts, sql[at:]]), tuple(secrets)


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


def _secrets(sql: str, lower: str) -> set[_Span]:
    standard = _Search(backslashes=False)
    spans = set(standard.spans(sql, lower, 0))
    if not spans or "\\'" not in sql:
        return spans
    other = _Search(backslashes=True)
    other_spans = set(other.spans(sql, lower, 0))
    if not other.whole:
        return spans  # PostgreSQL would run nothing of it
    return spans & other_spans if standard.whole else other_spans


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
    """One search for the spans that are secrets. `backslashes`: they escape in plain strings, too."""

    __slots__ = ("_backslashes", "_left", "whole")

    def __init__(self, *, backslashes: bool) -> None:
        self._backslashes = backslashes
        self._left = _MOST_TOKENS
        self.whole = True
        """No string or comment was left open."""

    def spans(self, text: str, lower: str, depth: int) -> list[_Span]:
        """The secrets in `text`, which is `depth` strings deep."""
        found: list[_Span] = []
        marks = _Marks(lower)
        expecting = account = False
        first = True  # of its statement
        at = 0
        while at < len(text) and self._left > 0:
            skipped = _SPACE.match(text, at) if expecting else _BORING.match(text, at, marks.after(at))
            if skipped is not None:
                at, first = skipped.end(), first and skipped[0].isspace()
                continue
            self._left -= 1
            kind, start, end, at = self._token(text, at)
            self.whole = self.whole and (depth > 0 or at <= len(text))
            if (kind in _LITERALS and expecting) or (kind == "name" and expecting and account):
                found += _secret(text, start, end, free=account and depth == 0)
            elif kind in _LITERALS or kind in {"line", "block"}:
                found += self._within(kind, text[start:end], start, depth, free=account and depth == 0)
                if kind in _LITERALS and "password" in lower[start:end]:
                    found += self._put_together(text, start, end, at)
            elif kind in {"word", "name"}:
                expecting = start <= end - 8 and lower.startswith("password", end - 8)
            else:
                account = (account or first) if kind == "account" else account and text[start] != ";"
                expecting = expecting and account and text[start] == "="
            first = text[start] == ";" if kind == "other" else first and kind in {"line", "block"}
        return found

    def _within(self, kind: str, inner: str, start: int, depth: int, *, free: bool) -> list[_Span]:
        # Secrets in what a literal or comment holds.
        if depth == _DEEPEST:
            return []
        if kind in {"quoted", "escape", "exact"}:
            pairs = _ESCAPED_PAIRS if kind == "escape" or (kind == "quoted" and self._backslashes) else _PAIRS
            inner = pairs.sub(_unescaped, inner)
        lower = _lower(inner)
        if "password" not in lower and "://" not in inner:
            return []
        spans = _in_connection_string(inner, free=free) or [*self.spans(inner, lower, depth + 1), *_in_urls(inner)]
        return [(start + one, start + other) for one, other in spans]

    def _put_together(self, text: str, start: int, end: int, at: int) -> list[_Span]:
        # The secrets that the server puts into the literal whose content is from `start` to `end`; it ends at `at`.
        content, call = text[start:end], _QUOTED_CALL.match(text, at)
        if call is not None and content.rstrip()[-8:].lower() == "password" and call.end() < len(text):
            kind, start, end, _ = self._token(text, call.end())
            return _secret(text, start, end, free=False) if kind in _LITERALS else []
        found, number = [], 0
        for place in islice(_FORMATTED.finditer(content), _MOST_PLACES):
            if place["kind"] != "%":
                number = int(place["place"] or number + 1)
                quoted = place["kind"] in "lL" or (place["behind"] and place["behind"][-1] == "'")
                if place["behind"] and quoted:
                    found += self._argument(text, at, number)
        return found

    def _argument(self, text: str, at: int, number: int) -> list[_Span]:
        # The literal that is the argument so many commas behind `at`.
        depth, last = 0, ","
        for _ in range(_MOST_ARGUMENTS):
            skipped = _SPACE.match(text, at)
            at = skipped.end() if skipped is not None else at
            if at >= len(text) or self._left <= 0:
                break
            self._left -= 1
            kind, start, end, at = self._token(text, at)
            if kind in _LITERALS and depth == number == 0 and last == ",":
                return _secret(text, start, end, free=False)
            if kind not in {"line", "block"}:
                last = text[start] if kind == "other" else kind
                depth += (last in {"(", "["}) - (last in {")", "]"})
                number -= last == "," and depth == 0
            if depth < 0 or number < 0 or last == ";":
                break
        return []

    def _token(self, text: str, at: int) -> tuple[str, int, int, int]:
        # The token at `at`: its kind, where its content starts and ends, and where the next one starts (beyond the
        # text's end for one that is left open).
        found = _TOKEN.match(text, at)
        assert found is not None  # its last branch takes any character
        kind, opened = str(found.lastgroup), found.end()
        if kind in {"quoted", "exact", "escape"}:
            backslashes = kind == "escape" or (kind == "quoted" and self._backslashes)
            return kind, opened, *self._string_end(text, opened, backslashes=backslashes)
        if kind == "dollar":
            closed = text.find(found[0], opened)
            return (kind, opened, *((closed, closed + len(found[0])) if closed >= 0 else _open(text)))
        if kind == "name":
            return kind, opened, *_rest_end(_NAME, text, opened, ('""',))
        if kind == "line":
            end = _LINE_END.search(text, opened)
            return kind, opened, *((end.start(), end.start()) if end else _open(text))
        if kind == "block":
            return kind, opened, *_block_end(text, opened)
        return kind, at, opened, opened

    def _string_end(self, text: str, at: int, *, backslashes: bool) -> tuple[int, int]:
        pattern, goes_on = (_ESCAPE, ("''", "\\")) if backslashes else (_PLAIN, ("''",))
        while True:
            closed, end = _rest_end(pattern, text, at, goes_on)
            continued = _CONTINUED.match(text, end)
            if continued is None or self._left <= 0:
                return closed, end
            self._left -= 1
            at = continued.end()


def _open(text: str) -> tuple[int, int]:
    return len(text), len(text) + 1


def _rest_end(pattern: re.Pattern[str], text: str, at: int, goes_on: tuple[str, ...]) -> tuple[int, int]:
    # Where `pattern` ends, and behind the quote there. It has met its own bound where what `goes_on` stands there.
    while True:
        at = pattern.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing too
        if not text.startswith(goes_on, at):
            return at, at + 1


def _block_end(text: str, at: int) -> tuple[int, int]:
    # Comments nest in PostgreSQL.
    depth = 1
    for edge in _BLOCK_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.start(), edge.end()
    return _open(text)


def _unescaped(run: re.Match[str]) -> str:
    # Pairs like '' and \' as what they mean, NULs before them, so that no offset changes and quotes stay together.
    pairs = run[0]
    chars = [_ESCAPES.get(pairs[at], pairs[at]) if pairs[at - 1] == "\\" else "'" for at in range(1, len(pairs), 2)]
    return "\0" * len(chars) + "".join(chars)


def _in_connection_string(text: str, *, free: bool) -> list[_Span]:
    # The passwords in a literal that is a connection string as a whole.
    if _URI.match(text):
        passwords = _URI_PASSWORD
    elif _CONNECTION.fullmatch(text):
        passwords = _CONNECTION_PASSWORD
    else:
        return []
    spans = [found.span(str(found.lastgroup)) for found in passwords.finditer(text)]
    return [span for start, end in spans for span in _secret(text, start, end, free=free)]


def _in_urls(text: str) -> list[_Span]:
    return [found.span("bare") for found in islice(_URL_PASSWORD.finditer(text), _MOST_PLACES)]


def _secret(text: str, start: int, end: int, *, free: bool) -> list[_Span]:
    # The span of a literal's content, if it may be masked. The NULs at its end are not its own: they stand for the
    # first halves of its closing quotes (see `_unescaped`).
    content = text[start:end].rstrip("\0")
    if not content or not (free or (_NO_CODE.fullmatch(content) and not _FORMATTED.fullmatch(content))):
        return []
    return [(start, start + len(content))]
