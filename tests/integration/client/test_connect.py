"""`curfew connect`: which grant, the request and the wait where there is none, and what psql is given.

psql here is a script that tells what it was started with: the real one would keep that to itself.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.client.person import Person
from tests.integration.client.service import Service
from tests.integration.client.test_access import granted, listed

Somebody = Callable[[str], Person]
PSQL = """#!/usr/bin/env python3
import json, os, sys
cmdline = open("/proc/self/cmdline").read().split("\\0")
print("PSQL " + json.dumps({"argv": sys.argv[1:], "cmdline": cmdline, "env": dict(os.environ), "ppid": os.getppid()}))
sys.exit(7)
"""


@pytest.fixture
def shell(somebody: Somebody, tmp_path: Path, service: Service) -> Somebody:
    """As `somebody`, with a telling psql first in PATH, and the proxy's authority in the environment."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "psql").write_text(PSQL)
    (tools / "psql").chmod(0o755)

    def make(name: str) -> Person:
        person = somebody(name)
        person.variables["PATH"] = f"{tools}:{person.environment['PATH']}"
        person.variables["PGSSLROOTCERT"] = str(service.ca_file)
        return person

    return make


def told(output: str) -> dict[str, object]:
    """What psql was started with."""
    line = next(line for line in output.splitlines() if line.startswith("PSQL "))
    return dict(json.loads(line.removeprefix("PSQL ")))


def test_psql_gets_the_grant_and_its_own_arguments(shell: Somebody, service: Service) -> None:
    """All of the connection in the environment, all behind `--` untouched, and its exit code is ours."""
    dba = shell("dba1")
    grant = granted(dba, shell("carol"), "--for", "2h", target="billing")
    done = dba.run("connect", "billing", "--grant", grant, "--", "-c", "select 1", "--", "-x", PGSERVICE="other")
    assert done.returncode == 7, done.stderr
    seen = told(done.stdout)
    environment = seen["env"]
    assert isinstance(environment, dict)
    token = environment["PGPASSWORD"]
    assert token.count(".") == 2
    assert seen["argv"] == ["-c", "select 1", "--", "-x"]
    assert token not in str(seen["cmdline"])
    assert {name: environment[name] for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE")} == {
        "PGHOST": "localhost",
        "PGPORT": str(service.proxy_port),
        "PGUSER": "dba1",
        "PGDATABASE": "billing",
        "PGSSLMODE": "verify-full",
    }
    assert "PGSERVICE" not in environment
    assert "CURFEW_API_KEY" not in environment
    assert token not in done.stderr
    assert f"on grant {grant}, until " in done.stderr


def test_an_active_grant_is_used_without_asking(shell: Somebody) -> None:
    """The one that covers what is wanted; no request is made."""
    dba = shell("dba2")
    granted(dba, shell("carol"), "--database", "hr", profile="dba")
    before = len(listed(dba, "requests"))
    done = dba.run("connect", "orders", "dba", "--database", "hr")
    environment = told(done.stdout)["env"]
    assert isinstance(environment, dict)
    assert environment["PGDATABASE"] == "orders/hr"
    assert len(listed(dba, "requests")) == before


def test_without_a_grant_it_asks_waits_and_connects(shell: Somebody) -> None:
    """On a terminal: the spinner, then psql in the same process, once an approver has said yes."""
    dba, carol = shell("lone"), shell("carol")
    done: list[str] = []

    def approve(screen: str) -> None:
        if "waiting for the decision" in screen and not done:
            done.append(next(r["id"] for r in listed(carol, "requests", "--person", "lone", "--state", "pending")))
            carol.ok("approve", *done)

    code, screen = dba.on_terminal("connect", "orders", "readonly", "--reason", "a look", "--for", "15m", act=approve)
    assert code == 7, screen
    environment = told(screen)["env"]
    assert isinstance(environment, dict)
    assert environment["PGUSER"] == "lone"
    assert f"{done[0]} waits for an approver: lone on orders (shop) as readonly for 15m: a look" in screen


def test_ctrl_c_leaves_the_request_and_says_so(shell: Somebody) -> None:
    """Exit code 130; the next connect takes up the same request, and a denial ends it."""
    dba, carol = shell("carol"), shell("lone")
    code, screen = dba.on_terminal(
        "connect", "billing", "readonly", "--reason", "x", answers={"waiting for the decision": "\x03"}
    )
    assert code == 130, screen
    pending = [r["id"] for r in listed(dba, "requests", "--person", "carol", "--state", "pending")]
    assert len(pending) == 1
    assert f"stopped waiting; {pending[0]} is still pending" in screen
    assert f"curfew withdraw {pending[0]}" in screen
    assert "Traceback" not in screen
    denied: list[str] = []

    def deny(screen: str) -> None:
        if "waiting for the decision" in screen and not denied:
            denied.append(carol.ok("deny", pending[0], "--comment", "no"))

    code, screen = dba.on_terminal("connect", "billing", "readonly", act=deny)
    assert code == 1
    assert f"request {pending[0]} was not approved: denied by lone: no" in screen


def test_what_is_missing_is_asked_for(shell: Somebody) -> None:
    """A reason for a request, one of several profiles, a target that exists, an authority, psql itself."""
    dba = shell("dba2")
    assert "add --reason TEXT" in dba.refused("connect", "billing")
    assert "orders has several profiles: dba, readonly" in shell("root").refused("connect", "orders", "--reason", "x")
    assert "there is no target nowhere" in dba.refused("connect", "nowhere", "--reason", "x")
    grant = granted(dba, shell("carol"), target="billing")
    assert "which authority signed" in dba.refused("connect", "billing", PGSSLROOTCERT="")
    assert "psql is not installed" in dba.refused("connect", "billing", PATH="/nowhere")
    assert f"grant {grant} is for billing, not for orders" in dba.refused("connect", "orders", "--grant", grant)
    dba.ok("revoke", grant, "--reason", "done")
    assert f"grant {grant} is revoked" in dba.refused("connect", "billing", "--grant", grant)
