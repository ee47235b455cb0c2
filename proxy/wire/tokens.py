"""SQL's tokens, read exactly as PostgreSQL's scan.l reads them, for who looks for secrets in SQL (`secrets`).

Owns where a string, a name or a comment begins and ends, and what it says. Where the reading hangs on
standard_conforming_strings, both readings can be had. Never parses SQL, never raises, and does a bounded work
(`MOST_TOKENS`): what lies beyond, in a statement that no person writes, is not read.
"""

import re

MOST_TOKENS = 200_000
"""Tokens of interest in one statement: a statement of 100 MB must not hold up the other sessions."""
LITERALS = frozenset({"quoted", "exact", "escape", "dollar"})
COMMENTS = frozenset({"line", "block"})
Span = tuple[int, int]
Token = tuple[str, int, int, int]
"""Its kind, where its content starts and ends, and where the next one starts (beyond the text's end for one that is
left open)."""


# All patterns are linear, and repeats of groups are bounded, since each repeat costs memory.
START = "A-Za-z_\x80-\U0010ffff"
PART = START + "0-9$"
SPACE = re.compile(r"[ \t\n\r\f\v\0]+")
BORING = re.compile(
    rf"""(?:
      [^{START}'"$/;-]+
    | (?![eE]')[{START}][{PART}]*
    | '[^'\\]*(?:''[^'\\]*){{0,50}}'(?!')
    | "[^"]*"(?!")
    | \$\d+ | /(?!\*) | -(?!-)
    ){{1,1000}}""",
    re.VERBOSE,
)
"""Many tokens at once, for where no mark is."""
_TOKEN = re.compile(
    rf"""
      (?P<account>(?<![{PART}])(?i:create|alter)
        (?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r]|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/){{1,100}}+
        (?i:role|user|group|server|subscription|database|system)(?![{PART}]))
    | (?P<line>--)
    | (?P<block>/\*)
    | (?P<escape>[eE]')
    | (?P<quoted>[nN]?')
    | (?P<exact>(?:[uU]&|[bBxX])')
    | (?P<name>(?:[uU]&)?")
    | (?P<parameter>\$\d+)
    | (?P<dollar>\$(?:[{START}][{START}0-9]*)?\$)
    | (?P<word>[{START}][{PART}]*)
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
_PIECES = re.compile(rf"''|'{_CONTINUED.pattern}")

_PAIRS = re.compile(r"(?:''){1,1000}")
_ESCAPED_PAIRS = re.compile(r"(?:''|\\.){1,1000}", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "b": " "}

_LONGEST_NAME = 400
"""Characters of a name as it is written: 63 bytes, each as an escape of 6 or more."""
_UESCAPE = re.compile(
    r"(?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r]|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/){0,100}+(?i:uescape)"
    r"(?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r]|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/){0,100}+[eE]?'([^'\s\"+0-9a-fA-F])'"
)
_CODE_POINT = r"{0}(?:{0}|([0-9a-fA-F]{{4}})|\+([0-9a-fA-F]{{6}}))"
_LAST_CODE_POINT = 0x10FFFF


class Scanner:
    """One reading of a text. `backslashes`: they escape in plain strings, too."""

    __slots__ = ("_backslashes", "left")

    def __init__(self, *, backslashes: bool) -> None:
        self._backslashes = backslashes
        self.left = MOST_TOKENS
        """How many tokens it may still read."""

    def token(self, text: str, at: int) -> Token:
        """The token at `at`."""
        self.left -= 1
        found = _TOKEN.match(text, at)
        assert found is not None  # its last branch takes any character
        kind, opened = str(found.lastgroup), found.end()
        if kind in {"quoted", "exact", "escape"}:
            return kind, opened, *self._string_end(text, opened, backslashes=self._escapes(kind))
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

    def meant(self, kind: str, inner: str) -> str:
        r"""What a literal's content says: pairs like '' and \' as what they mean, each character at its place."""
        if kind == "dollar":
            return inner
        return (_ESCAPED_PAIRS if self._escapes(kind) else _PAIRS).sub(_unescaped, inner)

    def _escapes(self, kind: str) -> bool:
        return kind == "escape" or (kind == "quoted" and self._backslashes)

    def _string_end(self, text: str, at: int, *, backslashes: bool) -> tuple[int, int]:
        pattern, goes_on = (_ESCAPE, ("''", "\\")) if backslashes else (_PLAIN, ("''",))
        while True:
            closed, end = _rest_end(pattern, text, at, goes_on)
            continued = _CONTINUED.match(text, end)
            if continued is None or self.left <= 0:
                return closed, end
            self.left -= 1
            at = continued.end()


def word_at(text: str, start: int, end: int) -> str:
    """The word that ends at `end`, in lower case. What comes before `start` can be its beginning: marks cut words."""
    while start > 0 and end - start < _LONGEST_NAME and is_part(text[start - 1]):
        start -= 1
    return text[start:end].lower()


def is_part(char: str) -> bool:
    """Whether a word may go on with `char`."""
    return char.isascii() is False or char.isalnum() or char in "_$"


def name_at(text: str, start: int, end: int, at: int) -> tuple[str, int]:
    """What the quoted name says whose content is from `start` to `end`, in lower case; and where the next token is.

    It ends at `at`, but for a UESCAPE behind it.
    """
    escaped = start >= 3 and text[start - 2] == "&" and text[start - 3] in "uU"  # noqa: PLR2004 U&"
    name = text[start : min(end, start + _LONGEST_NAME)].replace('""', '"')
    if escaped:
        uescape = _UESCAPE.match(text, at)
        escape, at = ("\\", at) if uescape is None else (uescape[1], uescape.end())
        name = re.sub(_CODE_POINT.format(re.escape(escape)), _character, name)
    return name.lower(), at


def whole(content: str) -> str:
    """A literal's content without the line ends and comments over which it goes on."""
    if "\n" not in content and "\r" not in content:
        return content
    return _PIECES.sub(lambda found: "''" if found[0] == "''" else "", content)


def _character(found: re.Match[str]) -> str:
    if found.lastindex is None:
        return found[0][0]
    code = int(found[found.lastindex], 16)
    return chr(code) if code <= _LAST_CODE_POINT else found[0]


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
    # NULs before them, so that no offset changes and quotes stay together.
    pairs = run[0]
    chars = [_ESCAPES.get(pairs[at], pairs[at]) if pairs[at - 1] == "\\" else "'" for at in range(1, len(pairs), 2)]
    return "\0" * len(chars) + "".join(chars)
