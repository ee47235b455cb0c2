"""HTML: a session as one document for an auditor, to read, search, print and keep. Pure.

It stands alone: nothing is loaded, no script is in it or needed, and its Content-Security-Policy forbids everything but
its own style, by hash, so that even a fault of ours here could run nothing (W3C, Content Security Policy Level 3). All
text of the session is escaped, and its control, bidi and invisible characters are shown as escapes, set apart from text
that only looks like one.

Written item by item: at any time only the errors' index is kept, of at most INDEXED errors; the rest are counted there,
and each error links to the one before it.
"""

import base64
import hashlib
import html
from collections.abc import Iterable
from typing import Final

from control import harmless
from control.durations import show_duration, show_offset
from control.evidence.exports import words
from control.evidence.exports.context import Context
from control.evidence.exports.style import STYLE
from control.evidence.timeline import Item
from control.times import SECOND, rfc3339
from proxy.contract.record import Parameter

INDEXED: Final = 10_000
EARLY: Final = 1_000
"""How many items wait for the header at most."""
EXCERPT: Final = 200
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


class Html:
    """A session's document."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._early: list[Item] | None = []
        """What came before the header could be written: that waits for the session's own first record."""
        self._transaction: int | None = None
        self._outcome: str | None = None
        self._entries = 0
        self._statements = 0
        self._errors: list[tuple[str, str, str]] = []
        self._failed = 0
        self._last_error = ""

    def begin(self) -> bytes:
        """What stands before all that is known of the session."""
        title = f"Session {self._context.session.id}"
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="referrer" content="no-referrer">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{text(title)}</title><style>{STYLE}</style></head><body>\n"
        ).encode()

    def take(self, item: Item) -> bytes:
        """An item; before the first ones the header, which says what only the session's first record knows."""
        first = self._context.take(item)
        if self._early is not None:
            self._early.append(item)
            if not first and len(self._early) < EARLY:
                return b""
            parts = list(self._begun())
        else:
            parts = list(self._item(item))
        return "".join(parts).encode()

    def finish(self) -> bytes:
        """The index of errors, and a last line: a document without it has been cut."""
        parts = list(self._begun())
        parts += [self._close(), "</main>\n", *self._index()]
        still = "" if self._context.session.ended_at else " The session was still open: this is what there was by then."
        counts = f"entries: {self._entries}, statements: {self._statements}, errors: {self._failed}"
        parts.append(f'<footer id="end"><p>End of the document: {counts}.{still}</p></footer></body></html>\n')
        return "".join(parts).encode()

    def _begun(self) -> Iterable[str]:
        """The header, and what has waited for it."""
        early, self._early = self._early, None
        if early is not None:
            yield self._head()
        for item in early or ():
            yield from self._item(item)

    def _head(self) -> str:
        session = self._context.session
        facts = "".join(f"<dt>{name}</dt><dd>{text(value)}</dd>" for name, value in _facts(self._context) if value)
        return (
            f"<header><h1>Session {text(session.id)}</h1><dl>{facts}</dl>"
            "<p>This document is a rendering of the records and proves nothing by itself. "
            f"<code>curfew verify {text(session.id)}</code> checks the records, their signature and their place in "
            "the log; <code>curfew export --bundle</code> makes a file that anybody can check.</p>"
            '<nav><a href="#errors">Errors</a> <a href="#end">End</a></nav></header>\n<main>\n'
        )

    def _item(self, item: Item) -> Iterable[str]:
        self._entries += 1
        gap = f'<p class="gap">{show_duration(item["gap_s"])} without anything</p>\n' if item.get("gap_s") else ""
        if item["kind"] == "transaction" and item["transaction"] == self._transaction:
            self._outcome = words.told(item)
            yield self._close()
            return
        if item["kind"] != "statement":
            if item["kind"] in ("end", "reaped"):
                yield self._close()
            yield gap + _event(item)
            return
        if item["transaction"] != self._transaction:
            yield self._close()
            self._transaction = item["transaction"]
            yield f"{gap}<section><h2>Transaction {item['transaction']}</h2>\n"
        else:
            yield gap
        self._outcome = item.get("outcome") or self._outcome
        self._statements += 1
        yield self._statement(item)

    def _close(self) -> str:
        """The end of the transaction that is open."""
        if self._transaction is None:
            return ""
        outcome = "" if self._outcome is None else f'<p class="outcome">{text(self._outcome)}</p>'
        self._transaction = self._outcome = None
        return f"{outcome}</section>\n"

    def _statement(self, item: Item) -> str:
        number = item["statement"]
        failed = words.failed(item)
        style = "bad" if failed else "good" if item["finished"] and not item["skipped"] else "unknown"
        parts = [
            f'<article id="s{number}" class="{style}">',
            f'<p class="at"><a href="#s{number}">#{number}</a> {_when(item)} {text(_how(item))}</p>',
            _sql(item["text"] if item["mode"] == "function" else item["sql"]),
            *_notes(item),
            _parameters(item["parameters"] or []),
            f'<p class="result">{text(words.result(item))}{text(_counts(item))}',
        ]
        if failed:
            parts.append(self._error(item))
        parts.append("</p></article>\n")
        return "".join(parts)

    def _error(self, item: Item) -> str:
        """Its links, and its place in the index."""
        self._failed += 1
        before = f' <a href="#{self._last_error}">the error before</a>' if self._last_error else ""
        self._last_error = f"s{item['statement']}"
        if len(self._errors) < INDEXED:
            said = f"{item['sqlstate']} {item['message'] or ''}".strip()
            self._errors.append((self._last_error, said[:EXCERPT], item["sql"][:EXCERPT]))
        return before

    def _index(self) -> Iterable[str]:
        yield '<section id="errors"><h2>Errors</h2>\n'
        yield "<ol>\n" if self._errors else "<p>None.</p>\n"
        for anchor, said, sql in self._errors:
            yield f'<li><a href="#{anchor}">#{anchor[1:]}</a> {text(said)} <code>{text(sql)}</code></li>\n'
        if self._errors:
            yield "</ol>\n"
        if self._failed > len(self._errors):
            more = self._failed - len(self._errors)
            last = f'<a href="#{self._last_error}">the last one</a>'
            yield f"<p>And {more} more; {last} leads to the one before it, and so on.</p>\n"
        yield "</section>\n"


def text(raw: str) -> str:
    """`raw` as HTML: escaped, and harmless. Line ends and tabs stay what they are."""
    return harmless.replaced(html.escape(raw), _escape, keep="\n\t")


def _sql(raw: str) -> str:
    """The first line end behind `<pre>` is not part of its text (HTML, 13.1.2.5): so it is one of ours."""
    return f"<pre>\n{text(raw)}</pre>"


def _escape(character: str) -> str:
    return f'<span class="c">{harmless.line(character)}</span>'


def _facts(context: Context) -> Iterable[tuple[str, str | None]]:
    """What the header says: who, why, who said yes, where, when, how it ended and how that is known."""
    session, started = context.session, context.started
    yield "person", session.person or (context.said_user and f"{context.said_user} (said, not proven)")
    yield "reason", started.get("reason")
    yield "approved by", started.get("approved_by")
    yield "grant", session.grant
    yield "target", context.place + (f" as {session.profile}" if session.profile else "")
    yield "logged in as", started.get("upstream_user")
    yield "server", started.get("server")
    yield "from", f"{session.address or 'a unix socket'}" + (f" through {started['via']}" if started.get("via") else "")
    yield "program", session.application_name
    yield "proxy", session.proxy
    yield "began", rfc3339(session.started_at)
    yield "grant's end", _time(session.expires_at)
    yield "ended", _time(session.ended_at) or "still open"
    yield "because", _cause(context)
    yield "open work", session.outcome
    yield "decided", _time(session.decided_at)
    yield "backend gone", _gone(context)
    yield "statements", str(session.statements)
    yield "records", f"{session.records}, the last one's hash is {session.head}"
    yield "faults", f"{session.faults} times something came that breaks its chain" if session.faults else None


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else rfc3339(nanoseconds)


def _cause(context: Context) -> str | None:
    by = f" by {context.session.ended_by}" if context.session.ended_by else ""
    return None if context.session.end_reason is None else context.session.end_reason + by


def _gone(context: Context) -> str | None:
    """How its end is known."""
    session = context.session
    if session.ended_at is None or session.person is None:
        return None
    if session.gone_at is None:
        return "not proven: nobody could look"
    took = "" if session.stop_ns is None else f", {show_duration(session.stop_ns / SECOND)} after the decision"
    by = "" if session.reaped_by is None else f", by proxy {session.reaped_by}"
    return f"seen at {rfc3339(session.gone_at)}{took}{by}"


def _when(item: Item) -> str:
    return f"{show_offset(item['offset_s'])} <time>{text(item['at'])}</time>"


def _event(item: Item) -> str:
    """What is no statement."""
    kind = html.escape(item["kind"])
    sql = _sql(item["sql"]) if item.get("sql") is not None else ""
    said = f"PREPARE {_name(item)}" if sql else words.told(item)
    values = _parameters(item.get("parameters") or [])
    more = sql + "".join(_notes(item)) + values
    return f'<div class="event {kind}"><p class="at">{_when(item)}</p><p>{text(said)}</p>{more}</div>\n'


def _name(item: Item) -> str:
    portal = item.get("portal")
    return f"'{item.get('name') or ''}'" if portal is None else f"portal '{portal}'"


def _how(item: Item) -> str:
    named = f" '{item['name']}'" if item["name"] else ""
    return f"{item['mode']}{named}" + (f" {item['function']}" if item["function"] is not None else "")


def _notes(item: Item) -> Iterable[str]:
    if item.get("masked"):
        yield "<p>A secret in it is masked.</p>"
    if item.get("sql_base64"):
        yield f"<p>Its exact bytes, in base64: <code>{text(item['sql_base64'])}</code></p>"
    if item.get("announced") is not None:
        yield f"<p>What had been announced, and did not run:</p>{_sql(item['announced'])}"


def _counts(item: Item) -> str:
    if not item["finished"]:
        return ""
    tags = f"{'; '.join(item['tags'])}, " if item["tags"] else ""
    return f" {tags}{item['bytes_in']} bytes in, {item['bytes_out']} out"


def _parameters(values: list[Parameter]) -> str:
    """The bound values. NULL is set apart from the text NULL by its quotes, its colour and its slant."""
    if not values:
        return ""
    rows = []
    for number, value in enumerate(values, start=1):
        shown = text(words.parameter(value))
        bare = value.withheld or value.base64 is not None or value.value is None
        rows.append(f"<tr><th>${number}</th><td>{f'<i>{shown}</i>' if bare else shown}</td></tr>")
    return f"<table>{''.join(rows)}</table>"
