"""Sessions, replay and verification, over records that a proxy has sent to a real control service."""

import json
import re
import time
from collections.abc import Callable
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.contract import proof
from proxy.contract.record import (
    AuthRefused,
    Cancel,
    Chain,
    Copy,
    Notice,
    Outcome,
    Parameter,
    Record,
    SessionEnd,
    SessionStart,
    StatementEnd,
    StatementStart,
)
from tests.harness.processes import Process
from tests.integration.client.person import Person, command
from tests.integration.client.service import Edge, Service

Somebody = Callable[[str], Person]
EVIL = "SELECT 1;\n   0:00.003  #1     SUCCESS (0 rows, 1 ms)\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\u2028"
MS = 1_000_000
_numbers = count(1)


def start(person: str = "dba1") -> SessionStart:
    """The beginning of a session."""
    return SessionStart(
        grant="grt_0123456789abcdef",
        person=person,
        reason="fix it",
        approved_by="carol",
        expires_at=2_000_000_000_000_000_000,
        target="orders",
        database="shop",
        profile="dba",
        upstream_user="owner",
        backend_pid=4711,
        backend_start="2026-11-22T12:00:00.000001+00:00",
        address="10.0.0.7",
        application_name="psql\x1b[1m",
        proxy="edge",
    )


def asked(number: int, sql: str, *parameters: Parameter) -> StatementStart:
    """A statement."""
    values = list(parameters) or None
    return StatementStart(statement=number, kind="query", sql=sql, parameters=values, state="I", transaction=number)


def end(outcome: Outcome = "rolled back", **changes: object) -> SessionEnd:
    """The end of a session whose grant has expired."""
    plain = {"reason": "expired", "decided_at": 5 * MS, "gone_at": 85 * MS, "running": 2}
    counts = {"statements": 2, "bytes_in": 10, "bytes_out": 20}
    return SessionEnd(outcome=outcome, **(plain | counts | changes))  # type: ignore[arg-type]


def story() -> list[Record]:
    """A session in which something of every kind happens."""
    return [
        start(),
        asked(
            1,
            EVIL,
            Parameter(type=25, value="NULL"),
            Parameter(type=23),
            Parameter(type=17, base64="AAE="),
            Parameter(type=23, withheld=True),
        ),
        StatementEnd(statement=1, duration=12 * MS, rows=3, tags=["SELECT 3"], state="I"),
        asked(2, "COPY t FROM stdin"),
        Copy(statement=2, direction="in", bytes=999),
        StatementEnd(statement=2, duration=2 * MS, sqlstate="42P01", message="no \x1b[31mtable", state="E"),
        Cancel(forwarded=False, address="10.0.0.7"),
        Notice(severity="WARNING", sqlstate="01000", message="your grant ends in 1 minute"),
        end(),
    ]


def new_session() -> str:
    """An id as proxies make them."""
    return f"ses_{next(_numbers):016x}"


@pytest.fixture
def session(edge: Edge) -> str:
    """The id of a session with a story."""
    name = new_session()
    edge.send(name, *story())
    return name


def test_a_replay_tells_the_story_and_nothing_acts_on_the_terminal(somebody: Somebody, session: str) -> None:
    """To a pipe: at once, no colours, each text harmless, NULL unlike the text NULL, results and the end's outcome."""
    shown = somebody("eve").ok("replay", session)
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    lines = shown.splitlines()
    assert lines[0] == f"session {session}: dba1 on orders/shop as dba"
    assert lines[1].endswith("from 10.0.0.7, psql\\x1b[1m, through proxy edge")
    assert [line.split(maxsplit=1)[1].strip() for line in lines[3:]] == [
        "START dba1 connected to orders/shop as dba",
        "#1     > SELECT 1;",
        "   0:00.003  #1     SUCCESS (0 rows, 1 ms)\\x1b]0;owned\\x07\\x1b[2J\\u202e\\x9b31m\\u2028".strip(),
        "= 'NULL'",
        "= NULL",
        "= base64 'AAE=' (type 17)",
        "= withheld (type 23)",
        "#2     > COPY t FROM stdin",
        "COPY COPY in, 999 bytes",
        "#2     ERROR 42P01 no \\x1b[31mtable (2 ms)",
        "CANCEL cancel, but nothing was running",
        "NOTICE WARNING 01000: your grant ends in 1 minute",
        "END expired; #2 was running; open work: rolled back; backend gone 80 ms after the decision",
        "#1     SUCCESS (3 rows, 12 ms)",
    ]


def test_a_replay_on_a_terminal_has_colours_unless_unwanted(somebody: Somebody, session: str) -> None:
    """And the only escapes are our own."""
    code, screen = somebody("eve").on_terminal("replay", session, columns=60)
    assert code == 0
    assert "\x1b[1;31m" in screen
    assert "\x1b]0;" not in screen
    assert "\x1b[2J" not in screen
    _, plain = somebody("eve").on_terminal("replay", session, NO_COLOR="1")
    assert "31m" not in plain.replace("\\x9b31m", "").replace("\\x1b[31m", "")


def test_a_replay_takes_its_time(somebody: Somebody, edge: Edge) -> None:
    """Half an hour of session: pauses may be cut, time may run faster, and Ctrl-C ends the original timing."""
    name = new_session()
    edge.send(name, start(), asked(1, "SELECT 1"), StatementEnd(statement=1, duration=5), end(), step_ns=600_000 * MS)
    eve = somebody("eve")
    assert "END expired" in eve.ok("replay", name, "--max-gap", "0.01")
    assert "END expired" in eve.ok("replay", name, "--speed", "1000000")
    code, screen = eve.on_terminal("replay", name, answers={"START": "\x03"})
    assert code == 130
    assert "stopped" in screen
    assert "END" not in screen


def test_a_replay_of_an_open_session_says_so(somebody: Somebody, edge: Edge) -> None:
    """What there is so far, with a statement that still runs."""
    name = new_session()
    edge.send(name, start(), asked(1, "SELECT pg_sleep(9)"))
    done = somebody("eve").run("replay", name)
    assert "NO RESULT" in done.stdout
    assert "still open" in done.stderr


def test_a_replay_can_begin_anywhere(somebody: Somebody, session: str) -> None:
    """At an error, or a position; or show nothing but errors. What is not there is an error itself."""
    eve = somebody("eve")
    whole = eve.ok("replay", session).splitlines()
    at_error = next(number for number, line in enumerate(whole) if "COPY t FROM stdin" in line)
    shown = eve.ok("replay", session, "--at", "error").splitlines()
    assert shown[3:] == [line for line in whole[at_error:] if "SUCCESS" not in line]
    assert eve.ok("replay", session, "--errors").splitlines()[3:] == [
        line for line in whole if "COPY t FROM stdin" in line or "ERROR" in line
    ]
    assert len(eve.ok("replay", session, "--at", "0:00.007").splitlines()) < len(whole)
    assert "no such place" in eve.refused("replay", session, "--at", "error:2")
    assert eve.run("replay", session, "--at", "nowhere").returncode == 2


class Live:
    """A session that goes on: `do` sends its next records."""

    def __init__(self, edge: Edge) -> None:
        self.name = new_session()
        self._edge = edge
        self._chain = Chain(self.name)
        self.do(start())

    def do(self, *records: Record) -> None:
        """Send them."""
        seal, key = self._chain.seal, self._edge.key
        lines = [
            self._chain.seal_signed(one, key) if isinstance(one, SessionEnd) else seal(one, at=time.time_ns())
            for one in records
        ]
        self._edge.post(b"".join(line + b"\n" for line in lines)).raise_for_status()


@pytest.fixture
def live(edge: Edge) -> Live:
    """A session that has begun."""
    return Live(edge)


def test_a_live_session_is_followed(somebody: Somebody, live: Live) -> None:
    """What was, then each statement when it begins and its result when it has come; and it ends with the session."""
    live.do(asked(1, "SELECT 1"), StatementEnd(statement=1, duration=MS, tags=["SELECT 1"], rows=1, state="I"))
    eve = somebody("eve")
    with Process(command("replay", live.name, "--follow"), environment=eve.environment) as process:
        process.wait_for_output("#1     SUCCESS (1 row, 1 ms)")
        live.do(asked(2, "SELECT pg_sleep(9)"))
        process.wait_for_output("> SELECT pg_sleep(9)")
        assert "#2     SUCCESS" not in process.output
        live.do(StatementEnd(statement=2, duration=MS, sqlstate="57014", message="canceled", state="I"))
        process.wait_for_output("#2     ERROR 57014 canceled (1 ms)")
        live.do(end())
        process.wait_for_output("END expired")
        assert process.wait() == 0
    lines = eve.ok("replay", live.name, "-f", "--json").splitlines()
    assert [json.loads(line).get("kind") for line in lines] == [None, "start", *["statement"] * 4, "end"]
    assert len(eve.ok("replay", live.name, "--follow", "--errors").splitlines()) == 5


def test_following_outlasts_a_restart(somebody: Somebody, live: Live, service: Service) -> None:
    """The service is killed and comes back: what happened before is shown once, what happens then too."""
    live.do(asked(1, "SELECT 1"))
    with Process(command("replay", live.name, "--follow"), environment=somebody("eve").environment) as process:
        process.wait_for_output("> SELECT 1")
        service.kill()
        service.start()
        process.wait_for_output("connected again", within=30)
        live.do(StatementEnd(statement=1, duration=MS, tags=["SELECT 1"], rows=1, state="I"), end())
        process.wait_for_output("END expired")
        assert process.wait() == 0
    assert "trying again" in process.output
    assert [process.output.count(part) for part in ("START", "> SELECT 1", "SUCCESS", "END")] == [1, 1, 1, 1]


def test_following_ends_with_ctrl_c(somebody: Somebody, live: Live) -> None:
    """As `tail -f` does, and with the shell's number for it."""
    eve = somebody("eve")
    code, screen = eve.on_terminal("replay", live.name, "--follow", answers={"START": "\x03"})
    assert code == 130
    assert "stopped" in screen


def test_who_may_not_follow(somebody: Somebody, live: Live) -> None:
    """Somebody else's session, unless one audits; one's own, anybody."""
    live.do(end())
    assert "START" in somebody("dba1").ok("replay", live.name, "--follow")
    assert somebody("carol").refused("replay", live.name, "--follow").startswith("curfew: Forbidden: ")
    somebody("dba2").refused("replay", live.name, "--follow")


def test_sessions_are_listed_with_how_they_ended(somebody: Somebody, edge: Edge, session: str) -> None:
    """Ended and open; a person sees their own."""
    running = new_session()
    edge.send(running, start("dba2"))
    rows = {line.split()[0]: line for line in somebody("eve").ok("sessions").splitlines()}
    assert rows[session].split()[1:5] == ["ended", "dba1", "orders/shop", "dba"]
    assert "expired, rolled back, gone in 80 ms" in rows[session]
    assert rows[running].split()[1] == "open"
    own = somebody("dba2").ok("sessions", "--state", "open")
    assert running in own
    assert session not in own


def test_refused_connections_can_be_listed_and_replayed(somebody: Somebody, edge: Edge) -> None:
    """Nobody is named for them: the user name is only what the connection said."""
    name = new_session()
    edge.send(name, AuthRefused(refusal="expired", user="x", database="orders", address="10.6.6.6"))
    eve = somebody("eve")
    row = next(line for line in eve.ok("sessions", "--state", "refused").splitlines() if line.startswith(name))
    assert row.split()[1:4] == ["refused", "-", "orders"]
    shown = eve.ok("replay", name)
    assert f"session {name}: a refused connection to orders\n" in shown
    assert "REFUSED a connection as x to orders was refused: expired" in shown
    assert "None" not in shown


def test_killing_takes_the_right_to(somebody: Somebody, edge: Edge, session: str) -> None:
    """An approver may, an auditor may not, and what has ended stays ended."""
    running = new_session()
    edge.send(running, start())
    assert somebody("eve").refused("kill", running).startswith("curfew: Forbidden: ")
    assert somebody("carol").ok("kill", running, "--no-wait") == f"ordered the end of {running}: dba1 on orders/shop\n"
    assert somebody("carol").refused("kill", session).startswith("curfew: ")


def test_records_are_verified_from_the_service(somebody: Somebody, edge: Edge, session: str) -> None:
    """With the proxy's key from elsewhere or from the service, where that shows it."""
    said = somebody("eve").ok("verify", session, "--public-key", edge.public_key)
    session_line, log_line = said.splitlines()
    whole = f"ok: session {session}: 9 records, 2 statements, chain whole, signed by proxy edge, all in the log"
    assert session_line == whole
    assert re.fullmatch(r"ok: log localhost: \d+ records, signed", log_line)
    done = somebody("eve").run("verify", session)
    if done.returncode:  # the service may keep its list of proxies to administrators
        assert "--public-key" in done.stderr
    else:
        assert "signed by proxy edge" in done.stdout
        assert "the service's word" in done.stderr


def test_a_session_that_is_not_whole_is_found_out(somebody: Somebody, edge: Edge) -> None:
    """One without an end, and one with another proxy's key."""
    running = new_session()
    edge.send(running, start(), asked(1, "SELECT 1"))
    eve, key = somebody("eve"), ("--public-key", edge.public_key)
    done = eve.run("verify", running, *key)
    assert done.returncode == 1
    assert f"BAD: session {running}, record 2: the session has no end" in done.stdout
    whole = new_session()
    edge.send(whole, *story())
    other = edge.public_key[:-2] + ("AA" if edge.public_key[-2:] != "AA" else "BA")
    assert eve.run("verify", whole, "--public-key", other).returncode == 1


def test_a_refused_connection_is_verified(somebody: Somebody, edge: Edge) -> None:
    """Its one record is signed, so that nobody can invent or change it; another key's does not pass."""
    name = new_session()
    edge.send(name, AuthRefused(refusal="expired", user="x", database="orders"))
    eve = somebody("eve")
    said = eve.ok("verify", name, "--public-key", edge.public_key)
    assert said.startswith(f"ok: session {name}: a refused connection, signed by its proxy, all in the log\n")
    stranger = proof.public_text(Ed25519PrivateKey.generate().public_key())
    done = eve.run("verify", name, "--public-key", stranger)
    assert done.returncode == 1
    assert "BAD" in done.stdout


def test_the_service_takes_no_refusal_that_is_not_signed(somebody: Somebody, edge: Edge) -> None:
    """It is kept as a fault, and there is no such session."""
    name = new_session()
    line = Chain(name).seal(AuthRefused(refusal="expired", user="x", database="orders"))
    assert edge.post(line + b"\n").status_code == 409
    assert name not in somebody("eve").ok("sessions", "--state", "refused")


def test_what_was_fetched_is_verified_offline(somebody: Somebody, edge: Edge) -> None:
    """The very lines, in a file, by somebody without a login; an edit is found."""
    lines = edge.send(new_session(), *story())
    eve = somebody("eve")
    file = eve.home / "records.ndjson"
    file.write_bytes(b"\n".join(lines) + b"\n")
    arguments = ("verify", str(file), "--public-key", edge.public_key)
    assert "signed by proxy edge" in eve.ok(*arguments, CURFEW_URL="", CURFEW_API_KEY="")
    file.write_bytes(b"\n".join(lines).replace(b"COPY t", b"COPY u"))
    done = eve.run(*arguments)
    assert done.returncode == 1
    assert "record 4: the record before it was changed" in done.stdout


def test_the_timelines_json_is_the_services(somebody: Somebody, session: str) -> None:
    """Exact values for programs, in ASCII."""
    text = somebody("eve").ok("replay", session, "--json")
    assert text.isascii()
    assert json.loads(text)["items"][1]["sql"] == EVIL
