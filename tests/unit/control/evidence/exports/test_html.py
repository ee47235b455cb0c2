"""The HTML document."""

import base64
import hashlib
import tracemalloc
from dataclasses import replace

import pytest

from control import harmless
from control.evidence.exports import html
from control.evidence.exports.context import Context
from control.evidence.exports.html import Html
from proxy.contract.record import AuthRefused, Record
from tests.unit.control.evidence.exports.reading import Reader
from tests.unit.control.evidence.exports.story import EVIL, SECOND, asked, done, end, start, story, told, written


def document(*records: Record, step_ns: int = SECOND) -> str:
    """The document of a session."""
    session, items = told(*records, step_ns=step_ns)
    return written(Html(Context(session=session, version="1")), items).decode()


def test_nothing_in_it_is_loaded_or_run() -> None:
    """No element and no attribute that could; and its policy allows its own style, and nothing else at all."""
    reader = Reader(document(*story()))
    assert reader.misnested == []
    assert reader.open == []
    assert {"script", "img", "link", "iframe", "object", "form", "svg", "base"} & set(reader.tags) == set()
    assert {name for _, name, _ in reader.attributes} <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "id",
        "class",
        "href",
    }
    assert all(value.startswith("#") for value in reader.values("href"))
    (style,) = reader.texts["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (
        "meta",
        "content",
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    ) in reader.attributes


def test_hostile_sql_is_shown_as_text() -> None:
    """Exactly, but for what would act on its reader, which is shown as escapes and set apart."""
    reader = Reader(document(*story()))
    shown = "\n".join(harmless.line(line.lstrip("\t")) for line in EVIL.split("\n"))
    assert reader.texts["pre"][1] == "\n" + shown.replace("\n", "\n\t")
    whole = document(*story())
    assert all(character.isprintable() or character in "\n\t" for character in whole)
    assert '<span class="c">\\u202e</span>' in whole


def test_an_escape_is_told_from_text_that_looks_like_one() -> None:
    """By a mark around it."""
    assert html.text("\\x1b \x1b") == '\\x1b <span class="c">\\x1b</span>'


def test_the_first_line_end_of_a_statement_is_kept() -> None:
    """HTML drops one that follows <pre>; so one of ours stands before it."""
    assert "<pre>\n\nSELECT 1</pre>" in document(start(), asked(1, "\nSELECT 1"), done(1))


def test_null_is_no_text() -> None:
    """Nor is what is withheld, or not decoded."""
    reader = Reader(document(*story()))
    assert reader.texts["td"][:4] == ["'NULL'", "NULL", "base64 'AAE=' (type 17)", "withheld (type 23)"]
    assert reader.texts["i"][:3] == ["NULL", "base64 'AAE=' (type 17)", "withheld (type 23)"]


def test_the_header_says_who_why_where_and_how_it_ended() -> None:
    """And by what that is known."""
    reader = Reader(document(*story(), step_ns=3 * SECOND))
    facts = dict(zip(reader.texts["dt"], reader.texts["dd"], strict=True))
    assert facts == {
        "person": "dba1",
        "reason": "INC-1043: <b>why</b>\\x1b[1m",
        "approved by": "carol",
        "grant": "grt_0123456789abcdef",
        "target": "orders/shop as dba",
        "logged in as": "owner",
        "server": "[fd00::5]:5432",
        "from": "10.0.0.7 through 10.0.0.1",
        "program": "psql\\x1b[1m",
        "proxy": "edge",
        "began": "2026-11-22T12:00:00.000000Z",
        "grant's end": "2026-11-22T14:00:00.000000Z",
        "ended": "2026-11-22T12:01:12.000000Z",
        "because": "revoked by carol",
        "open work": "rolled back",
        "decided": "2026-11-22T12:00:30.000000Z",
        "backend gone": "seen at 2026-11-22T12:00:30.029000Z, 29 ms after the decision",
        "statements": "8",
        "records": f"25, the last one's hash is {'5e55' * 16}",
    }


def test_an_end_that_nobody_has_seen_is_not_proven() -> None:
    """And a chain that something broke is said to be."""
    session, items = told(start(), end(gone_at=None))
    shown = written(Html(Context(session=replace(session, faults=2), version="1")), items).decode()
    assert "<dd>not proven: nobody could look</dd>" in shown
    assert "<dt>faults</dt><dd>2 times something came that breaks its chain</dd>" in shown


def test_statements_stand_by_transaction_with_its_outcome() -> None:
    """What came between them stands with them; the end of the session in none."""
    sections = Reader(document(*story())).texts["section"]
    assert [section.split("\n")[0] for section in sections] == [*(f"Transaction {n}" for n in range(1, 7)), "Errors"]
    assert [section.rstrip().rsplit("\n", 1)[-1] for section in (sections[0], sections[1], sections[5])] == [
        "committed",
        "ROLLED BACK transaction 2: 3 statements, 0 rows, 1 error",
        "rolled back",
    ]
    assert "BEGIN" in sections[1]
    assert "secret" in sections[1]
    assert "COPY in, 4 bytes" in sections[2]
    assert "END revoked" not in sections[5]


def test_errors_are_marked_and_listed() -> None:
    """With an anchor each, and a way back from one to the one before."""
    bad = done(1, sqlstate="42601", message="syntax error")
    shown = document(
        start(), asked(1, "SELEC"), bad, asked(2, "SELECT 1"), done(2), asked(3, "SELEC"), done(3, sqlstate="42601")
    )
    assert shown.count('class="bad"') == 2
    assert '<li><a href="#s1">#1</a> 42601 syntax error <code>SELEC</code></li>' in shown
    assert '<a href="#s1">the error before</a>' in shown
    assert '<article id="s3"' in shown
    assert "statements: 3, errors: 2" in shown


def test_the_index_of_errors_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves out it counts, and the links lead through all of them."""
    monkeypatch.setattr(html, "INDEXED", 2)
    records: list[Record] = [start()]
    for number in range(1, 6):
        records += [asked(number, "SELEC"), done(number, sqlstate="42601")]
    shown = document(*records)
    assert shown.count("<li>") == 2
    assert 'And 3 more; <a href="#s5">the last one</a>' in shown
    assert shown.count("the error before") == 4


def test_pauses_are_said() -> None:
    """From the end of what was last to the next."""
    long = done(1, "SELECT 1", duration=20 * SECOND)
    shown = document(start(), asked(1, "SELECT 1"), long, asked(2, "SELECT 2"), done(2), step_ns=40 * SECOND)
    assert [said for said in Reader(shown).texts["p"] if "without" in said] == [
        "40s without anything",
        "1m without anything",
    ]


def test_what_ran_instead_of_what_was_announced_is_said() -> None:
    """Both texts are there."""
    shown = document(*story())
    assert "<pre>\nSELECT ran</pre><p>What had been announced, and did not run:</p><pre>\nSELECT planned</pre>" in shown


def test_a_cut_document_shows() -> None:
    """Its last line says that it is whole, and whether the session was."""
    assert document(start()).endswith(
        '<footer id="end"><p>End of the document: entries: 1, statements: 0, errors: 0. The session was still open: '
        "this is what there was by then.</p></footer></body></html>\n"
    )


def test_a_refused_connection_has_a_document_too() -> None:
    """With a name that nobody has proven."""
    shown = document(AuthRefused(refusal="expired", user="<x>", database="orders"))
    assert "<dd>&lt;x&gt; (said, not proven)</dd>" in shown
    assert "REFUSED a connection as &lt;x&gt; to orders was refused: expired" in shown


def test_a_long_statement_is_whole() -> None:
    """A megabyte of it."""
    sql = "SELECT '" + "é<" * 500_000 + "'"
    shown = document(start(), asked(1, sql), done(1))
    assert shown.count("é&lt;") == 500_000


def test_a_long_session_takes_no_more_memory() -> None:
    """Thousands of statements leave nothing behind."""
    session, items = told(start(), asked(1, "SELECT 1"), done(1, "SELECT 1"))
    exporter = Html(Context(session=session, version="1"))
    exporter.begin()
    exporter.take(items[0])
    tracemalloc.start()
    for number in range(2_000):
        assert exporter.take(items[1] | {"statement": number, "transaction": number})
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000


def test_the_header_waits_for_the_sessions_own_first_record() -> None:
    """What control's books have from before it stands behind the header, and who has no such record gets one too."""
    session, items = told(start(), end())
    earlier = {
        "seq": None,
        "at": "2026-11-22T11:00:00.000000Z",
        "offset_s": -3600.0,
        "kind": "request",
        "text": "<asked>",
    }
    shown = written(Html(Context(session=session, version="1")), [earlier, *items]).decode()
    facts = Reader(shown).texts["dt"]
    assert "approved by" in facts
    assert shown.index("</header>") < shown.index("REQUEST &lt;asked&gt;") < shown.index("START dba1")
    shown = written(Html(Context(session=session, version="1")), [earlier]).decode()
    assert shown.index("</header>") < shown.index("REQUEST &lt;asked&gt;")
