"""How access ends, by the command: end modes, more time, locks, and the proof that it is over."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import pytest

from proxy.contract.record import EndReason, SessionStart
from tests.harness.processes import Process
from tests.integration.client.person import Person, command
from tests.integration.client.service import Edge
from tests.integration.client.test_access import Somebody, asked, granted, listed
from tests.integration.client.test_evidence import MS, end, new_session, start
from tests.integration.client.test_evidence import asked as asked_sql


def test_the_approver_picks_how_sessions_end(somebody: Somebody) -> None:
    """Who asks says what they would like, who approves says what it is, and everybody sees it."""
    dba, carol = somebody("dba1"), somebody("carol")
    said = dba.ok("request", "orders", "dba", "--reason", "a long index", "--end", "finish")
    assert "asked to finish what runs at the end: a long index" in said
    done = carol.run("approve", said.split()[0])
    assert "granted is a hard end" in done.stderr
    carol.ok("approve", second := asked(dba), "--end", "finish")
    ends = {one["request"]: one["end"] for one in listed(dba, "grants")}
    assert (ends[said.split()[0]], ends[second]) == ("hard", "finish")
    row = next(line for line in dba.ok("grants").splitlines() if " finish " in line)
    assert "HOW" in dba.ok("grants").splitlines()[0]
    assert row.split()[1] == "active"
    assert carol.run("approve", second, "--end", "soon").returncode == 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An open session that the service knows of."""

    edge: Edge
    id: str
    person: str
    target: str
    at: int

    def end(self, reason: EndReason) -> None:
        """Its end, as the proxy proves it."""
        gone = self.at + 29 * MS
        last = end(reason=reason, by="carol", decided_at=self.at, gone_at=gone, running=None, statements=0)
        self.edge.send(self.id, first(self.person, self.target), last, at=self.at)


def session(edge: Edge, *, person: str = "dba1", target: str = "orders") -> Open:
    """A new one."""
    one = Open(edge=edge, id=new_session(), person=person, target=target, at=time.time_ns())
    edge.send(one.id, first(person, target), at=one.at)
    return one


def first(person: str, target: str) -> SessionStart:
    """Its beginning."""
    return msgspec.structs.replace(start(person), target=target, database=target)


@contextmanager
def running(person: Person, *arguments: str) -> Iterator[Process]:
    """The command, which waits for something."""
    with Process(command(*arguments), environment=person.environment) as process:
        yield process


def test_killing_waits_for_the_proof(somebody: Somebody, edge: Edge) -> None:
    """What was ended, how, how soon, and how long the answer took."""
    one = session(edge)
    with running(somebody("carol"), "kill", one.id) as kill:
        kill.wait_for_output("ordered the end of")
        one.end("killed")
        assert kill.wait(within=30) == 0
    assert f"ended {one.id}: dba1 on orders/orders: killed by carol, rolled back, gone in 29 ms" in kill.output
    assert "1 session ended, proven after " in kill.output
    assert "backends gone at most 29 ms after the decision" in kill.output


def test_an_end_that_is_not_proven_is_no_success(somebody: Somebody, edge: Edge) -> None:
    """Which session is still open is said, and that the order stands; without the waiting, only the order is."""
    one = session(edge)
    done = somebody("carol").run("kill", one.id, "--within", "1s")
    assert done.returncode == 1
    assert f"STILL OPEN {one.id}: dba1 on orders/orders, through proxy edge" in done.stdout
    assert "the order stands" in done.stderr
    said = somebody("carol").ok("kill", one.id, "--no-wait")
    assert said == f"ordered the end of {one.id}: dba1 on orders/orders\n"
    one.end("killed")


def test_a_target_is_locked_and_unlocked(somebody: Somebody, edge: Edge) -> None:
    """Sessions end, no token is issued, both sides see why; unlocked, it goes on."""
    dba, carol = somebody("dba1"), somebody("carol")
    grant = granted(dba, carol, target="billing")
    one = session(edge, target="billing")
    with running(carol, "lock", "--target", "billing", "--for", "2h", "--reason", "a 'leak'\\ 😀") as lock:
        lock.wait_for_output("locked target billing, until ")
        one.end("locked")
        assert lock.wait(within=30) == 0
    assert f"ended {one.id}: dba1 on billing/billing: locked by carol, rolled back" in lock.output
    lock_id = lock.output.partition("`curfew unlock ")[2].partition("`")[0]
    try:
        refused = dba.refused("token", grant)
        assert refused.startswith("curfew: Locked: target billing is locked by carol until ")
        assert f"a 'leak'\\ 😀 (lock {lock_id})" in refused
        assert "`curfew locks` shows the lock" in refused
        row = next(line for line in dba.ok("locks").splitlines() if line.startswith(lock_id))
        assert row.split()[1:4] == ["active", "target", "billing"]
        assert "(in 1h59m)" in row
        assert dba.refused("unlock", lock_id).startswith("curfew: Forbidden: ")
    finally:
        said = carol.ok("unlock", lock_id[:-2], "--reason", "found it")
    assert said == f"unlocked target billing: {lock_id}\n"
    assert lock_id not in carol.ok("locks")
    assert "(lifted by carol: found it)" in carol.ok("locks", "--all")
    assert lock_id in carol.ok("locks", "--state", "lifted", "--json")
    assert dba.ok("token", grant)


def test_everything_is_locked_by_who_means_it(somebody: Somebody) -> None:
    """Typed out on a terminal, `--yes` in a script, and nothing happens where nobody can be asked."""
    carol = somebody("carol")
    arguments = ("lock", "--everything", "--reason", "a fire", "--no-wait")
    assert "nobody is there to answer" in carol.refused(*arguments)
    code, screen = carol.on_terminal(*arguments, answers={"to go on: ": "y\n"})
    assert (code, "nothing was locked" in screen) == (1, True)
    assert listed(carol, "locks") == []
    _, typed = carol.on_terminal(*arguments, answers={"to go on: ": "everything\n"})
    assert unlock_the_only(carol) in typed
    given = carol.ok(*arguments, "--yes")
    assert f"locked everything, until it is unlocked: {unlock_the_only(carol)}\n" in given


def unlock_the_only(person: Person) -> str:
    """The id of the one lock that was in force."""
    [lock] = listed(person, "locks")
    person.ok("unlock", lock["id"])
    return lock["id"]


def test_a_slip_of_the_pen_is_warned_of(somebody: Somebody) -> None:
    """The lock is made all the same: it may be for somebody who comes tomorrow."""
    carol, nobody = somebody("carol"), "o'Brien\\ 😀"
    done = carol.run("lock", "--person", nobody, "--reason", "x")
    [lock] = [one for one in listed(carol, "locks") if one["person"] == nobody]
    carol.ok("unlock", lock["id"])
    assert done.returncode == 0
    assert "WARNING: there is nobody called o'Brien\\ 😀\n" in done.stderr
    assert "no session was open" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--everything", "--target", "orders"),
        ("--target", "orders", "--for", "-1h"),
        ("--target", "orders", "--for", "soon"),
    ],
)
def test_what_is_no_lock(somebody: Somebody, arguments: tuple[str, ...]) -> None:
    """Said before anything is asked of the service."""
    assert somebody("carol").run("lock", "--reason", "x", *arguments).returncode == 2


def test_what_cannot_be_locked(somebody: Somebody) -> None:
    """What only the service can know, it refuses."""
    assert "reason" in somebody("carol").refused("lock", "--target", "orders", "--reason", " ")
    assert "person" in somebody("carol").refused("lock", "--person", "a" * 64, "--reason", "x")
    assert somebody("dba1").refused("lock", "--person", "dba2", "--reason", "x").startswith("curfew: Forbidden: ")


def test_what_an_approver_sees_on_the_worst_day(somebody: Somebody, edge: Edge) -> None:
    """Who, where, from where, since and until when, and which command runs for how long."""
    name = new_session()
    edge.send(name, start("dba2"), asked_sql(1, "DELETE FROM salaries"), at=time.time_ns() - 125_000 * MS)
    row = next(line for line in somebody("carol").ok("sessions", "--state", "open").splitlines() if name in line)
    assert row.split()[1:6] == ["open", "dba2", "orders/shop", "dba", "10.0.0.7"]
    assert "2033-05-18" in row
    assert "DELETE for 2m" in row
    assert "salaries" not in row
    assert name in somebody("carol").ok("sessions", "--profile", "dba", "--proxy", "edge", "--state", "open")
    assert name not in somebody("carol").ok("sessions", "--profile", "readonly")


def test_more_time_is_asked_for_and_approved(somebody: Somebody) -> None:
    """By its own person, decided by another, seen by both; what is refused is refused in words."""
    dba, carol = somebody("dba1"), somebody("carol")
    grant = granted(dba, carol, "--for", "10m")
    said = dba.ok("extend", grant[:-1], "--for", "30m", "--reason", "a 'long' index\\ 😀")
    request = said.split()[0]
    assert said.endswith(f" is pending: dba1: 30m more on grant {grant} (orders as readonly): a 'long' index\\ 😀\n")
    row = next(line for line in carol.ok("requests", "--state", "pending").splitlines() if line.startswith(request))
    assert "+30m" in row.split()
    assert dba.refused("extend", grant, "--for", "5m", "--reason", "x").startswith("curfew: Conflict: ")
    done = carol.run("approve", request, "--for", "20m")
    assert f"20m more on grant {grant}" in done.stdout
    assert "ends it early" not in done.stderr
    row = next(line for line in dba.ok("grants").splitlines() if line.startswith(grant))
    assert "(in 29m" in row
    assert "+20m by carol" in row
    assert "duration_s must be 1 to" in dba.refused("extend", grant, "--for", "8h", "--reason", "x")
    assert carol.refused("extend", grant, "--for", "5m", "--reason", "x").startswith("curfew: Forbidden: ")
    assert somebody("dba2").refused("extend", grant, "--for", "5m", "--reason", "x").startswith("curfew: Not Found: ")


def test_waiting_for_more_time(somebody: Somebody) -> None:
    """Until it is decided; the new end is told, and how to get in with it."""
    dba, carol = somebody("dba1"), somebody("carol")
    grant = granted(dba, carol, "--for", "10m")
    with running(dba, "extend", grant, "--for", "1h", "--reason", "x", "--wait") as extend:
        said = extend.wait_for_output("waits for an approver: dba1: 1h more on grant")
        carol.ok("approve", "req_" + said.partition("req_")[2].split()[0])
        assert extend.wait(within=30) == 0
    assert f"is approved by carol: grant {grant} ends " in extend.output
    assert "(in 1h9m" in extend.output
