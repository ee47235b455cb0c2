"""From login to revocation against a real control service."""

import base64
import hashlib
import json
import ssl
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg import pq

from tests.harness.certs import Authority
from tests.harness.waiting import eventually_sync
from tests.integration.client.person import Person
from tests.integration.client.service import Service

Somebody = Callable[[str], Person]


def asked(person: Person, *more: str, target: str = "orders", profile: str = "readonly") -> str:
    """The id of a new request."""
    made = person.ok("request", target, profile, "--reason", "look at it", "--json", *more)
    return str(json.loads(made)["id"])


def granted(person: Person, approver: Person, *more: str, target: str = "orders", profile: str = "readonly") -> str:
    """The id of a new grant."""
    request = asked(person, *more, target=target, profile=profile)
    approver.ok("approve", request)
    return str(next(r["grant"] for r in listed(approver, "requests") if r["id"] == request))


def listed(person: Person, *arguments: str) -> list[dict[str, str]]:
    """A listing's items."""
    return list(json.loads(person.ok(*arguments, "--json"))["items"])


def test_a_login_is_verified_before_it_is_stored(person: Person, service: Service) -> None:
    """A wrong key leaves nothing behind; the right one, piped in, serves from then on."""
    config = person.home / ".config" / "curfew" / "config.json"
    arguments = ("login", "--url", service.url, "--ca-file", str(service.ca_file))
    said = person.refused(*arguments, text="cfk_wrong_key\n")
    assert said.startswith("curfew: Unauthorized: ")
    assert not config.exists()
    assert "as dba1 (requester)" in person.ok(*arguments, text=service.keys["dba1"] + "\n")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert person.ok("whoami").startswith(f"dba1 at {service.url}, roles: requester")
    assert json.loads(person.ok("whoami", "--json"))["name"] == "dba1"
    person.ok("logout")
    assert "not logged in" in person.refused("whoami")


def test_the_key_is_asked_for_without_showing_it(person: Person, service: Service) -> None:
    """On a terminal nothing is echoed; an empty answer is refused."""
    arguments = ("login", "--url", service.url, "--ca-file", str(service.ca_file))
    code, screen = person.on_terminal(*arguments, answers={"not shown": service.keys["dba1"] + "\n"})
    assert code == 0
    assert "as dba1" in screen
    assert service.keys["dba1"] not in screen
    code, screen = person.on_terminal(*arguments, answers={"not shown": "\n"})
    assert code == 1
    assert "no Curfew API key" in screen


def test_targets_say_what_can_be_asked_for(somebody: Somebody) -> None:
    """Names, profiles and databases."""
    shown = somebody("dba1").ok("targets").splitlines()
    assert [line.split()[0] for line in shown] == ["TARGET", "billing", "orders"]
    assert "dba, readonly" in shown[2]
    assert "The shop's orders" in shown[2]


def test_a_request_becomes_a_grant_and_ends(somebody: Somebody) -> None:
    """Asked, listed, approved for less, listed, revoked: each step is seen by the other side."""
    dba, carol = somebody("dba1"), somebody("carol")
    said = dba.ok("request", "orders", "dba", "--for", "1h30m", "--reason", "fix [red]it[/red]", "--database", "shop")
    request = said.split()[0]
    assert said == f"{request} is pending: dba1 on orders (shop) as dba for 1h30m: fix [red]it[/red]\n"
    row = next(line for line in carol.ok("requests", "--state", "pending").splitlines() if line.startswith(request))
    assert row.split()[1:6] == ["pending", "dba1", "orders", "dba", "1h30m"]
    assert row.rstrip().endswith("fix [red]it[/red]")
    assert "for 15m" in carol.ok("approve", request, "--comment", "be quick", "--for", "15m")
    grant = next(r["grant"] for r in listed(dba, "requests") if r["id"] == request)
    row = next(line for line in dba.ok("grants").splitlines() if line.startswith(grant))
    assert row.split()[1:6] == ["active", "dba1", "orders", "dba", "shop"]
    assert "(in 15m)" in row or "(in 14m" in row
    assert carol.ok("revoke", grant, "--reason", "enough").startswith(f"revoked {grant}: dba1 on orders as dba")
    row = next(line for line in dba.ok("grants", "--state", "revoked").splitlines() if line.startswith(grant))
    assert row.rstrip().endswith("revoked by carol: enough")


def test_ids_stay_whole_on_a_narrow_terminal(somebody: Somebody) -> None:
    """They are there to be copied; only the last column is folded."""
    dba = somebody("dba1")
    request = asked(dba)
    code, screen = dba.on_terminal("requests", columns=40, NO_COLOR="1")
    assert code == 0
    row = next(line for line in screen.splitlines() if line.startswith(request))
    assert row.split()[:3] == [request, "pending", "dba1"]


def test_denied_and_withdrawn_requests_stay_so(somebody: Somebody) -> None:
    """And what cannot be decided any more is refused in words."""
    dba, carol = somebody("dba1"), somebody("carol")
    one, two = asked(dba), asked(dba)
    assert carol.ok("deny", one, "--comment", "not today").startswith(f"denied {one}")
    assert dba.ok("withdraw", two).startswith(f"withdrew {two}")
    said = carol.refused("approve", one)
    assert said.startswith("curfew: Conflict: ")
    assert "curfew requests" in said


def test_nobody_approves_their_own(somebody: Somebody) -> None:
    """The service's reason reaches the person."""
    lone = somebody("lone")
    assert lone.refused("approve", asked(lone)).startswith("curfew: Forbidden: ")


def test_ids_may_be_abbreviated(somebody: Somebody) -> None:
    """As far as they mean one; anything else is named as not found, or as ambiguous."""
    dba, carol = somebody("dba1"), somebody("carol")
    request = asked(dba)
    assert carol.ok("deny", request[4:-2]).startswith(f"denied {request}")
    asked(dba)
    assert "is the beginning of" in carol.refused("deny", "req_")
    assert carol.refused("deny", "req_nonsense").startswith("curfew: Not Found: ")
    assert carol.refused("deny", "../grants").startswith("curfew: Not Found")


def test_waiting_ends_with_the_decision(somebody: Somebody) -> None:
    """Approved: the grant and exit 0. Denied: who and why, and exit 1."""
    dba, carol = somebody("dba1"), somebody("carol")

    def new_request() -> str:
        pending = listed(dba, "requests", "--state", "pending")
        return next((one["id"] for one in pending if one["reason"] == "waiting"), "")

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(dba.run, "request", "billing", "readonly", "--reason", "waiting", "--wait")
        carol.ok("approve", eventually_sync(new_request, within=30))
        approved = run.result()
        run = pool.submit(dba.run, "request", "billing", "readonly", "--reason", "waiting", "--wait")
        carol.ok("deny", eventually_sync(new_request, within=30), "--comment", "not today")
        denied = run.result()
    assert approved.returncode == 0
    assert "is approved by carol: grant grt_" in approved.stdout
    assert denied.returncode == 1
    assert "was not approved: denied by carol: not today" in denied.stderr


@pytest.mark.parametrize(
    ("databases", "wanted", "name"),
    [
        ((), (), "orders"),
        (("--database", "shop"), (), "orders"),
        (("--database", "hr"), (), "orders/hr"),
        (("--database", "hr", "--database", "shop"), (), "orders"),
        (("--database", "hr", "--database", "shop"), ("-d", "hr"), "orders/hr"),
    ],
)
def test_tokens_name_the_database_that_is_granted(
    somebody: Somebody, service: Service, databases: tuple[str, ...], wanted: tuple[str, ...], name: str
) -> None:
    """The target's name for its default database, where that is granted; else the one that is."""
    dba = somebody("dba1")
    grant = granted(dba, somebody("carol"), *databases)
    uri = dba.ok("token", grant, "--format", "uri", "--sslrootcert", str(service.ca_file), *wanted).strip()
    values = {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.parse(uri.encode()) if o.val is not None}
    assert (values["host"], values["port"], values["user"]) == ("localhost", str(service.proxy_port), "dba1")
    assert values["dbname"] == name
    assert (values["sslmode"], values["sslrootcert"]) == ("verify-full", str(service.ca_file))
    assert values["password"].count(".") == 2


def test_every_form_of_a_token_holds_it(somebody: Somebody) -> None:
    """And only the token is on stdout for raw; how long it is good is on stderr."""
    dba = somebody("dba1")
    grant = granted(dba, somebody("carol"), "--for", "15m")
    done = dba.run("token", grant, "--format", "raw")
    assert done.stdout.count("\n") == 1
    assert done.stderr.startswith("good until ")
    assert done.stdout.startswith("ey")
    for form in ("env", "pgpass", "service", "uri", "psql"):
        assert "eyJ" in dba.ok("token", grant, "--format", form)


def test_another_persons_token_is_refused(somebody: Somebody) -> None:
    """An approver sees the grant, and still gets no token for it."""
    grant = granted(somebody("dba1"), somebody("carol"))
    assert somebody("carol").refused("token", grant).startswith("curfew: Forbidden: ")
    assert somebody("dba2").refused("token", grant).startswith("curfew: Not Found: ")


def test_json_is_the_services_own(somebody: Somebody) -> None:
    """Every listing, with all members, and following pages to the limit."""
    carol = somebody("carol")
    for _ in range(3):
        asked(somebody("dba2"))
    two = json.loads(carol.ok("requests", "--person", "dba2", "--limit", "2", "--json"))
    assert len(two["items"]) == 2
    assert two["next"] is not None
    assert {"id", "created_at", "max_sessions", "addresses"} <= set(two["items"][0])
    assert "--limit shows them" in carol.run("requests", "--person", "dba2", "--limit", "2").stderr
    for command in ("targets", "requests", "grants", "sessions"):
        assert isinstance(listed(carol, command), list)


def test_a_grant_for_a_certificate(somebody: Somebody, ca: Authority, tmp_path: Path) -> None:
    """`--certificate` takes the file that psql's `sslcert` names, and binds the grant to what is in it."""
    files = ca.client("dba1", folder=tmp_path)
    der = ssl.PEM_cert_to_DER_cert(files.certificate.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----")
    expected = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
    arguments = ("request", "orders", "readonly", "--reason", "look", "--certificate")
    assert ", bound to a client certificate: look" in somebody("dba1").ok(*arguments, str(files.certificate))
    made = json.loads(somebody("dba1").ok(*arguments, str(files.certificate), "--json"))
    assert made["certificate"] == expected
    for wrong in (str(files.key), str(tmp_path / "nowhere"), "/dev/null"):
        assert "has no certificate that can be read" in somebody("dba1").run(*arguments, wrong).stderr.replace(
            "\n", " "
        )
