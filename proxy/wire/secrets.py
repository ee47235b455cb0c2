"""Masking of passwords in SQL before it is recorded (DESIGN.md 4.4).

Owns the question which parts of a statement are secrets: the literal behind the word PASSWORD (CREATE and ALTER ROLE
or USER, the options of a user mapping), and the password in a literal that is a connection string (CREATE
SUBSCRIPTION, dblink). It reads tokens as PostgreSQL's scan.l does, so that comments, strings and quoted names neither
hide a password nor make one up, and looks into what strings and comments hold, as in `DO $$ ... $$`.

In doubt it masks more, but never more than one literal: code that PostgreSQL runs stays in the record. Plain strings
are read with standard_conforming_strings on, the default. Work is bounded (`_MOST_TOKENS`, `_DEEPEST`): what lies
beyond, in a statement no person writes, is left as it is.

Never parses SQL, and never raises.
"""

import re

MASK = "***"

_DEEPEST = 8
"""Strings within strings within strings."""
_MOST_TOKENS = 200_000
"""Tokens of interest in one statement: a statement of 100 MB must not hold up the other sessions."""

# All patterns are for text in lower case, and linear: repeats of groups are bounded, since each repeat costs memory.
_START = "a-z_\x80-\U0010ffff"
_PART = _START + "0-9$"
_SUSPECT = re.compile(r"""password"?+\s*+(?:=(?!\s*\$\d)|--|/\*|\\|[a-z&]{0,2}['"$])|://[^\s/@]*+@""")
_SPACE = re.compile(r"[\s\0]+")
_BORING = re.compile(
    rf"""(?:
      [^{_START}'"$/;-]+
    | (?!e'|(?:create|alter)[\s/-]|[{_PART}]*password)[{_START}][{_PART}]*
    | '(?:[^'p:]++|''|p(?!assword)|:(?!//)){{0,500}}'(?!')
    | "(?:[^"p]++|p(?!assword)){{0,500}}"(?!")
    | \$\d+ | /(?!\*) | -(?!-)
    ){{1,1000}}""",
    re.VERBOSE,
)
"""Nothing that matters here, many tokens at once."""
_TOKEN = re.compile(
    rf"""
      (?P<account>(?:create|alter)\s+(?:role|user|group|server|subscription)(?![{_PART}]))
    | (?P<line>--)
    | (?P<block>/\*)
    | (?P<escape>e')
    | (?P<plain>(?:u&|[bxn])?')
    | (?P<name>(?:u&)?")
    | (?P<dollar>\$(?:[{_START}][{_START}0-9]*)?\$)
    | (?P<word>[{_START}][{_PART}]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_REST = {
    "line": re.compile(r"[^\n\r]*"),
    "plain": re.compile(r"[^']*(?:''[^']*){0,1000}"),
    "escape": re.compile(r"[^'\\]*(?:(?:\\(?:.|\Z)|'')[^'\\]*){0,1000}", re.DOTALL),
    "name": re.compile(r'[^"]*(?:""[^"]*){0,1000}'),
}
_GOES_ON = {"line": (), "plain": ("''",), "escape": ("''", "\\"), "name": ('""',)}
"""What stands where a rest's pattern has met its bound, and not the end."""
_PAIRS = {"plain": re.compile(r"(?:''){1,1000}"), "escape": re.compile(r"(?:''|\\.){1,1000}", re.DOTALL)}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "b": " "}
_BLOCK_EDGE = re.compile(r"/\*|\*/")

_CONNECTION = re.compile(
    r"(?:[\s\0]*+\w++[\s\0]*+=[\s\0]*+(?:'(?:[^'\\]|\\.){0,500}'|[^\s\0']*+)){1,100}[\s\0]*", re.DOTALL
)
"""libpq's keyword=value strings."""
_CONNECTION_PASSWORD = re.compile(
    r"password[\s\0]*+=[\s\0]*+(?:'(?P<quoted>(?:[^'\\]|\\.){1,500})'|(?P<bare>[^\s\0']++))", re.DOTALL
)
_URI = re.compile(r"[\s\0]*+[a-z][a-z0-9+.-]*+://")
_URI_PASSWORD = re.compile(r"://[^\s/:@]*+:(?P<quoted>[^\s/@]++)@|[?&](?:ssl)?password=(?P<bare>[^\s&]++)")

_Span = tuple[int, int]
_LITERALS = frozenset({"plain", "escape", "dollar"})


def mask(sql: str) -> tuple[str, bool]:
    """`sql` with its secrets as `***`, and whether there were any."""
    lower = sql.lower()
    if ("password" not in lower and "://" not in lower) or not _SUSPECT.search(lower):
        return sql, False
    if len(lower) != len(sql):  # as some capitals have a longer small letter
        lower = "".join(char.lower() if char.isascii() else char for char in sql)
    parts, at = [], 0
    for start, end in sorted(_Search().spans(lower, 0)):
        if start >= at:
            parts += [sql[at:start], MASK]
            at = end
    return "".join([*parts, sql[at:]]), bool(parts)


class _Search:
    """One statement's search for spans that are secrets."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MOST_TOKENS

    def spans(self, text: str, depth: int) -> list[_Span]:
        """The secrets' spans. `text` is in lower case."""
        found: list[_Span] = []
        expecting = account = False
        at = 0
        while at < len(text) and self._left:
            skipped = (_SPACE if expecting else _BORING).match(text, at)
            if skipped is not None:
                at = skipped.end()
                continue
            self._left -= 1
            kind, start, end, at = _token(text, at)
            if kind in _LITERALS and expecting:
                found.append((start, end))
            elif kind in _LITERALS or kind in {"line", "block"}:
                found += self._within(kind, text, start, end, depth)
            elif kind == "name" and expecting and account:
                found.append((start, end))  # PASSWORD "secret": an error in PostgreSQL, and a frequent one
            elif kind in {"word", "name"}:
                expecting = text.endswith("password", start, end)
            elif kind == "account":
                account = True
            else:
                expecting = expecting and account and text[start] == "="
                account = account and text[start] != ";"
        return [(start, _trimmed(text, start, end)) for start, end in found if start < end]

    def _within(self, kind: str, text: str, start: int, end: int, depth: int) -> list[_Span]:
        # Secrets in what a literal or comment holds.
        inner = text[start:end]
        if depth == _DEEPEST or ("password" not in inner and "://" not in inner):
            return []
        if kind in _PAIRS:
            inner = _PAIRS[kind].sub(_unescaped, inner)
        spans = _in_connection_string(inner) or self.spans(inner, depth + 1)
        return [(start + one, start + other) for one, other in spans]


def _token(text: str, at: int) -> tuple[str, int, int, int]:
    # The token at `at`: its kind, where its content starts and ends, and where the next one starts.
    found = _TOKEN.match(text, at)
    assert found is not None  # its last branch takes any character
    kind, opened = str(found.lastgroup), found.end()
    if kind == "dollar":
        closed = text.find(found[0], opened)
        return (kind, opened, closed, closed + len(found[0])) if closed >= 0 else (kind, opened, len(text), len(text))
    if kind == "block":
        return (kind, opened, *_block_end(text, opened))
    if kind not in _REST:
        return kind, at, opened, opened
    closed = opened
    while True:
        closed = _REST[kind].match(text, closed).end()  # type: ignore[union-attr]  # it matches nothing too
        if not text.startswith(_GOES_ON[kind], closed):
            break
    return kind, opened, closed, closed + (kind != "line")


def _block_end(text: str, at: int) -> tuple[int, int]:
    # Comments nest in PostgreSQL.
    depth = 1
    for edge in _BLOCK_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.start(), edge.end()
    return len(text), len(text)


def _unescaped(run: re.Match[str]) -> str:
    # Pairs like '' and \' as what they mean, NULs before them, so that no offset changes and quotes stay together.
    pairs = run[0]
    chars = [_ESCAPES.get(pairs[at], pairs[at]) if pairs[at - 1] == "\\" else "'" for at in range(1, len(pairs), 2)]
    return "\0" * len(chars) + "".join(chars)


def _in_connection_string(text: str) -> list[_Span]:
    # The passwords in a literal that is a connection string as a whole.
    if _URI.match(text):
        passwords = _URI_PASSWORD
    elif _CONNECTION.fullmatch(text):
        passwords = _CONNECTION_PASSWORD
    else:
        return []
    spans = [found.span(str(found.lastgroup)) for found in passwords.finditer(text)]
    return [(start, _trimmed(text, start, end)) for start, end in spans]


def _trimmed(text: str, start: int, end: int) -> int:
    # Where content ends that the NULs of `_unescaped` follow: they stand for the first halves of its closing quotes.
    return start + len(text[start:end].rstrip("\0"))
