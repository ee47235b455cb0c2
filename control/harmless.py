r"""Making text from others safe to show: nothing in it can move the cursor, hide, reorder or forge what is around it.

Pure. Characters are shown as Python writes them (`\x1b`, `\u202e`); for the exact text, every command has `--json`.
Shown as themselves are only the characters that Python calls printable: no controls (C0, DEL, C1), no format characters
(bidi embeddings, overrides and isolates of Unicode's UAX 9, zero-width characters, tags), no surrogates, no separators
but the space, nothing private or unassigned. Escaped besides are the letters and marks that Unicode wants drawn as
nothing (Default_Ignorable_Code_Point), because an auditor must see what is there.
"""

import re
from collections.abc import Callable

_SUSPECT = re.compile(r"[^\x20-\x7e]")
_DRAWN_AS_NOTHING = frozenset(
    chr(point)
    for first, last in (
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x115F, 0x1160),  # Hangul fillers, also the next two single ones
        (0x3164, 0x3164),
        (0xFFA0, 0xFFA0),
        (0x17B4, 0x17B5),  # Khmer inherent vowels
        (0x180B, 0x180F),  # Mongolian variation selectors
        (0xFE00, 0xFE0F),  # variation selectors
        (0xE0100, 0xE01EF),
    )
    for point in range(first, last + 1)
)
_INVISIBLE = re.compile(f"[{''.join(sorted(_DRAWN_AS_NOTHING))}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TAB = 8
_LATIN_1 = 0xFF
_BASIC_PLANE = 0xFFFF


def line(text: str) -> str:
    """`text` on one line, harmless: newlines and tabs are escaped too."""
    if text.isprintable() and _INVISIBLE.search(text) is None:  # nearly all, and much faster
        return text
    return _SUSPECT.sub(_shown, text)


def replaced(text: str, show: Callable[[str], str], *, keep: str = "") -> str:
    """`text` with each character that could harm as `show` has it. Those in `keep` stay as they are."""
    plain = text
    for one in keep:
        plain = plain.replace(one, "")
    if plain.isprintable() and _INVISIBLE.search(plain) is None:
        return text

    def judge(match: re.Match[str]) -> str:
        harms = match[0] not in keep and _shown(match) != match[0]
        return show(match[0]) if harms else match[0]

    return _SUSPECT.sub(judge, text)


def lines(text: str) -> list[str]:
    r"""`text` line by line, harmless. Only `\n` ends a line; a tab becomes spaces to the next multiple of eight."""
    return [_without_tabs(part) for part in text.split("\n")]


def _without_tabs(text: str) -> str:
    first, *rest = text.split("\t")
    shown = line(first)
    for part in rest:
        shown += " " * (_TAB - len(shown) % _TAB) + line(part)
    return shown


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable() and character not in _DRAWN_AS_NOTHING:
        return character
    point = ord(character)
    if point <= _LATIN_1:
        return _SHORT.get(character, f"\\x{point:02x}")
    return f"\\u{point:04x}" if point <= _BASIC_PLANE else f"\\U{point:08x}"
