"""Saying what a verification has found: a line for the log, one for each session; or all of it as JSON.

Everything passes through `screen`, which makes it harmless: what is verified may be an attacker's.
"""

from collections.abc import Sequence

import msgspec

from control.client import screen
from control.client.checking import Checked
from control.client.journals import JournalChecked
from control.client.transparency import LogChecked
from control.client.wording import count


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `log` is None where there was none to look at."""

    log: LogChecked | None
    sessions: list[Checked]
    journals: list[JournalChecked] = []
    """The proxies' journals that the sessions are of, where they were looked at."""

    @property
    def ok(self) -> bool:
        """Whether all of it holds."""
        good = not any(one.fault for one in self.sessions) and not any(one.faults for one in self.journals)
        return good and (self.log is None or not self.log.fault)


def show(report: Report, *, json: bool) -> None:
    """Print it."""
    if json:
        screen.dump({"ok": report.ok} | msgspec.to_builtins(report))
        return
    for one in report.sessions:
        _session(one)
    for journal in report.journals:
        _journal(journal)
    if report.log is not None:
        _log(report.log)


def _session(one: Checked) -> None:
    counts = f"{count(one.records, 'record')}, {count(one.statements, 'statement')}"
    if one.fault is not None:
        where = f"record {one.seq}" if one.seq is not None else "its records"
        screen.say(f"BAD: session {one.session}, {where}: {one.fault} (before it: {counts})")
        return
    whole = "a refused connection" if one.refused else f"{counts}, chain whole"
    signed = {
        "good": f"signed by {f'proxy {one.proxy}' if one.proxy else 'its proxy'}",
        "not checked": "signature NOT checked (give --proxy-key)",
    }
    logged = ", all in the log" if one.log == "proven" else ""
    screen.say(f"ok: session {one.session}: {whole}, {signed[one.signature]}{logged}")


def _journal(one: JournalChecked) -> None:
    name = f"journal {one.journal} of {f'proxy {one.proxy}' if one.proxy else 'its proxy'}"
    for fault in one.faults:
        screen.say(f"BAD: {name}: {fault}")
    if one.whole:
        screen.say(f"ok: {name}: {count(one.sessions, 'session')}, none is missing between them")


def _log(log: LogChecked) -> None:
    if log.fault is not None:
        screen.say(f"BAD: log {log.origin}: {log.fault}")
        _heads(log.contradicting)
        return
    older = ", ".join(str(size) for size in sorted(set(log.begins_with)))
    grown = f", has all that its head of {older} records had" if older else ""
    screen.say(f"ok: log {log.origin}: {count(log.size or 0, 'record')}, signed{grown}")


def _heads(notes: Sequence[str]) -> None:
    for number, note in enumerate(notes, start=1):
        screen.say(f"  head {number}:")
        for line in note.splitlines():
            screen.say(f"    {line}")
