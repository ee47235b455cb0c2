"""Text that is aimed at the auditor's terminal or browser: on record to the letter, and nothing but text when shown."""

import json
import re
import unicodedata

from proxy.contract.record import SessionStart, StatementEnd, StatementStart
from tests.harness.wire import SYNC, bind, execute, parse, query
from tests.integration.evidence.conftest import Audit

EVIL = (
    "\x1b]52;c;ZXZpbA==\x07"  # the clipboard
    "\x1b[2J\x1b[1;1H\x1b]0;title\x07\x1bP+q\x1b\\\x9b31m\x90\x9c\x85"  # the screen, by C0 and by C1
    "\u202eabc\u2066\u200f\u2028\u2029\u200b\ufeff\U000e0041"  # bidi, separators, what is invisible
    "\r\n   0:00.000  #9     SUCCESS (0 rows, 1 ms)\t\x08\x7f"  # a line that looks like one of ours
    "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;{{7*7}}${7*7}"  # a browser
    "=cmd|' /C calc'!A0"  # a spreadsheet
)
NAME = "\x1b[31mn\u202e<b>"
SAFE = "\n"
_OURS = re.compile(r"\x1b\[[012]m|\r(?=\n)")
"""Bold, dim and plain, and a terminal's line ends."""


def harmless(shown: str) -> bool:
    """Whether a terminal does nothing with it but show it."""
    return all(char in SAFE or unicodedata.category(char)[0] not in "CZ" or char == " " for char in shown)


def quoted(text: str, quote: str = "'") -> str:
    """A literal, or a name."""
    return quote + text.replace(quote, quote * 2) + quote


async def test_everything_that_a_client_can_choose(audit: Audit) -> None:
    """SQL, names, values, errors and application_name: exact in the API, harmless in each command's output."""
    one = await audit.whole.grant(reason="<script>alert('why')</script>")
    async with await audit.log_in(one, application_name=EVIL) as wire:
        await wire.run(f"SELECT {quoted(EVIL)}")
        await wire.run(f"SELECT {quoted(EVIL[:20], chr(34))}")
        await wire.run(f"DO $e$ BEGIN RAISE EXCEPTION USING MESSAGE = {quoted(EVIL)}; END $e$")
        wire.send(
            parse(f"SELECT $1 || {quoted(EVIL)}", NAME) + bind(EVIL, name=NAME, portal=NAME) + execute(NAME) + SYNC
        )
        await wire.until("Z")
        session = (await audit.leave(wire, one))["id"]
    records = audit.records(one)
    starts = [record for record in records if isinstance(record, StatementStart)]
    assert starts[0].sql == f"SELECT {quoted(EVIL)}"
    assert (starts[3].name, starts[3].parameters is not None and starts[3].parameters[0].value) == (NAME, EVIL)
    messages = [record.message for record in records if isinstance(record, StatementEnd) and record.sqlstate]
    assert messages[-1] == EVIL
    assert isinstance(records[0], SessionStart)
    assert records[0].application_name == EVIL
    told = next(item for item in await audit.timeline(session) if item["kind"] == "statement")
    assert told["sql"] == starts[0].sql
    for command in (["replay", session], ["replay", session, "--json"], ["sessions", "--grant", one.grant]):
        shown = await audit.auditor(*command)
        assert harmless(shown), (command, [char for char in shown if not harmless(char)])
    screen = await audit.auditor_on_terminal("replay", session)
    assert harmless(_OURS.sub("", screen))
    assert "\\x1b]52;c;ZXZpbA==\\x07" in await audit.auditor("replay", session)


async def test_what_is_served_to_a_browser(audit: Audit) -> None:
    """JSON, and said to be nothing else: no browser takes HTML out of it."""
    one = await audit.whole.grant()
    async with await audit.log_in(one) as wire:
        await wire.run(f"SELECT {quoted(EVIL)}")
        session = (await audit.leave(wire, one))["id"]
    for path in ("timeline", "records"):
        headers, body = await audit.raw(f"/sessions/{session}/{path}")
        assert headers["content-type"].split(";")[0] in ("application/json", "application/x-ndjson")
        assert headers["x-content-type-options"] == "nosniff"
        assert all(char >= 0x20 or char == 0x0A for char in body)
        for line in body.splitlines():
            json.loads(line)


async def test_who_is_refused(audit: Audit) -> None:
    """The names of a login that is refused are on record as they came."""
    one = await audit.whole.grant()
    evil = EVIL[:60]
    error = await audit.refused(one, ("user", evil), ("database", f"orders/{evil}"))
    assert error["C"] == "28P01"
    assert evil not in error["M"]
    refused = await audit.refusal(one)
    assert refused.user == evil
    assert refused.database.endswith(evil)
    assert harmless(await audit.auditor("sessions"))


async def test_statements_without_text(audit: Audit) -> None:
    """Control characters alone, and nothing at all."""
    one = await audit.whole.grant()
    async with await audit.log_in(one) as wire:
        for text in ("\x1b[2J", "\x07", "", "\u2028", "\t"):
            wire.send(query(text))
            await wire.until("Z")
        session = (await audit.leave(wire, one))["id"]
    assert harmless(await audit.auditor("replay", session))
    first = next(record for record in audit.records(one) if isinstance(record, StatementStart))
    assert first.sql == "\x1b[2J"
