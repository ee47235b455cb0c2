"""Saying where a session that was run again went another way: statement by statement, then in numbers; or as JSON.

Compared is what the records have: command tags and rows, errors by SQLSTATE, what was skipped or suspended, the bytes
of a COPY out, the transaction's state afterwards. What rows said is not on record, so it is not compared.
"""

from collections import Counter
from typing import Any

import msgspec

from control.client import screen
from control.client.rerun_messages import Outcome
from control.client.rerun_rounds import Round, Statement
from control.client.rerun_source import Log

MOST_KEPT = 10_000
"""Differences that are told one by one; more are counted."""
TEXT = 200
"""Characters of a statement that are shown with a difference."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that went another way: for each field that differs, what it was and what it is."""

    session: str
    statement: int
    sql: str
    was: dict[str, Any]
    now: dict[str, Any]


class LostSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that could not be run to its end."""

    session: str
    statement: int | None
    reason: str


class Report:
    """Gathers what became of it all: a Listener of `rerun_order`."""

    def __init__(self) -> None:
        self.run = 0
        self.differing = 0
        self.reorderings: Counter[str] = Counter()
        self.differences: list[Difference] = []
        self.lost_sessions: list[LostSession] = []

    @property
    def equal(self) -> bool:
        """Whether all went as it had."""
        return not self.differing and not self.lost_sessions

    def took(self, log: Log, asked: Round, outcomes: list[Outcome]) -> None:
        """A round was run."""
        for statement, outcome in zip(asked.statements, outcomes, strict=True):
            self.run += 1
            found = compare(log.session, statement, outcome)
            if found is not None:
                self.differing += 1
                if len(self.differences) < MOST_KEPT:
                    self.differences.append(found)

    def lost(self, log: Log, asked: Round, why: str) -> None:
        """The connection broke in this round."""
        first = asked.statements[0].number if asked.statements else None
        self.lost_sessions.append(LostSession(session=log.session, statement=first, reason=why))

    def reordered(self, log: Log, asked: Round) -> None:
        """Another session's round had to go first."""
        del asked
        self.reorderings[log.session] += 1


def compare(session: str, statement: Statement, outcome: Outcome) -> Difference | None:
    """What differs, None where nothing does."""
    end = statement.end
    if end is None or (end.state is None and not (end.tags or end.sqlstate or end.skipped)):
        return None  # It was committed, but nobody had heard the answer.
    copied = [part.size for part in statement.copies if part.direction == "out"]
    was: dict[str, Any] = {
        "tags": end.tags,
        "sqlstate": end.sqlstate,
        "skipped": end.skipped,
        "suspended": end.suspended,
        "copied": copied,
        "state": end.state,
    }
    now: dict[str, Any] = {
        "tags": outcome.tags,
        "sqlstate": outcome.sqlstate,
        "skipped": outcome.skipped,
        "suspended": outcome.suspended,
        "copied": copied if end.sqlstate else outcome.copied,
        "state": outcome.state if end.state else None,
    }
    if end.suspended and outcome.suspended:
        was["rows"], now["rows"] = end.rows, outcome.rows
    differing = [name for name in was if was[name] != now[name]]
    if not differing:
        return None
    if "sqlstate" in differing:
        was["message"], now["message"] = end.message, outcome.message
        differing.append("message")
    return Difference(
        session=session,
        statement=statement.number,
        sql=statement.sql[:TEXT],
        was={name: was[name] for name in differing},
        now={name: now[name] for name in differing},
    )


def show(report: Report, *, against: str, left_out: int, cut: int, json: bool) -> None:
    """Print it."""
    if json:
        screen.dump(
            {
                "equal": report.equal,
                "against": against,
                "run": report.run,
                "differing": report.differing,
                "left_out": left_out,
                "cut": cut,
                "reordered": sum(report.reorderings.values()),
                "differences": msgspec.to_builtins(report.differences),
                "lost": msgspec.to_builtins(report.lost_sessions),
            }
        )
        return
    for one in report.differences:
        screen.say(f"DIFFERS: session {one.session} #{one.statement}: {one.sql}")
        for name in one.was:
            screen.say(f"  {name}: {_told(one.was[name])}, now {_told(one.now[name])}")
    if report.differing > len(report.differences):
        screen.say(f"and {report.differing - len(report.differences)} more")
    for lost in report.lost_sessions:
        where = "" if lost.statement is None else f" at #{lost.statement}"
        screen.say(f"LOST: session {lost.session}{where}: {lost.reason}; the rest of it was not run")
    _note_what_was_otherwise(report, left_out, cut)
    verdict = "as recorded" if report.equal else f"{report.differing} differently"
    screen.say(f"{_count(report.run, 'statement')} run against {against}: {verdict}")


def _note_what_was_otherwise(report: Report, left_out: int, cut: int) -> None:
    if left_out:
        screen.note(f"{_count(left_out, 'statement')} left out, because not all of them is on record")
    if cut:
        screen.note(f"{_count(cut, 'statement')} not run: the session's end had cut them short, nothing was committed")
    if report.reorderings:
        times = _count(sum(report.reorderings.values()), "time")
        screen.note(f"sessions waited for each other's locks in another order than they had, {times}")


def _told(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    return str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
