"""libpq's sslmode and sslnegotiation, as psycopg's libpq 18 and the psqls have them: who gets in, and who says why not.

What is refused is refused before the token has been sent, so nothing of it is on record either.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from proxy.contract.record import SessionStart
from tests.clients.programs import named, psql_18, system_psql
from tests.harness.certs import Authority
from tests.harness.processes import run
from tests.harness.proxy import Proxy, new_grant_id

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
NEGOTIATIONS = ("postgres", "direct")
ROOTS = ("none", "ours", "another", "system")
HOSTS = {"right": "localhost", "wrong": "elsewhere.test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to ask for a connection."""

    mode: str
    negotiation: str
    root: str
    host: str

    @property
    def refused(self) -> str | None:
        """Why libpq does not connect, in its own words; None where it does. (PostgreSQL: libpq, "SSL Support")."""
        weak, checked = self.mode in MODES[:3], self.mode in MODES[4:]
        reasons = {
            f'weak sslmode "{self.mode}" may not be used with sslnegotiation=direct': weak
            and self.negotiation == "direct",
            f'weak sslmode "{self.mode}" may not be used with sslrootcert=system': (
                self.mode != "verify-full" and self.root == "system"
            ),
            "connections to this proxy must use TLS": self.mode == "disable",
            "root certificate file": checked and self.root == "none",
            # A root certificate that is there is used in every mode; what `prefer` falls back to is refused as well.
            "certificate verify failed": self.root in ("another", "system"),
            'does not match host name "elsewhere.test"': self.mode == "verify-full" and self.host == "wrong",
        }
        return next((words for words, applies in reasons.items() if applies), None)

    def __str__(self) -> str:
        return f"{self.mode}-{self.negotiation}-{self.root}-{self.host}"


CASES = [
    Case(mode=mode, negotiation=negotiation, root=root, host=host)
    for mode, negotiation, root, host in itertools.product(MODES, NEGOTIATIONS, ROOTS, HOSTS)
]


@pytest.fixture(scope="session")
def roots(logged_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What sslrootcert names."""
    another = Authority(tmp_path_factory.mktemp("another"))
    missing = tmp_path_factory.mktemp("none") / "none.pem"
    return {"none": str(missing), "ours": str(logged_proxy.ca.file), "another": str(another.file), "system": "system"}


def options(case: Case, proxy: Proxy, roots: dict[str, str]) -> dict[str, str]:
    """The options of libpq's for the case, but for the token and the negotiation."""
    return {
        "host": HOSTS[case.host],
        "hostaddr": "127.0.0.1",
        "port": str(proxy.port),
        "user": "dba1",
        "dbname": "orders",
        "sslmode": case.mode,
        "sslrootcert": roots[case.root],
    }


@contextmanager
def on_record(proxy: Proxy) -> Iterator[dict[str, str]]:
    """A token, whose session must have been recorded with its TLS when this ends, or must not have been begun."""
    grant = new_grant_id()
    found = {"token": proxy.token(id=grant), "expected": "TLSv1.3"}
    yield found
    starts = [one for one in proxy.records() if isinstance(one, SessionStart) and one.grant == grant]
    assert [one.tls.version for one in starts if one.tls] == ([found["expected"]] if found["expected"] else [])
    assert len(starts) == bool(found["expected"])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_libpq_18(case: Case, logged_proxy: Proxy, roots: dict[str, str]) -> None:
    """Every mode with every negotiation, root certificate and name."""
    given = {**options(case, logged_proxy, roots), "sslnegotiation": case.negotiation}
    with on_record(logged_proxy) as session:
        conninfo = make_conninfo(**given, password=session["token"])
        if case.refused is None:
            with psycopg.connect(conninfo) as connection:
                assert connection.pgconn.ssl_in_use
                assert connection.execute("SELECT 1").fetchone() == (1,)
        else:
            session["expected"] = ""
            with pytest.raises(psycopg.OperationalError) as caught:
                psycopg.connect(conninfo)
            assert case.refused in str(caught.value)


OURS = [case for case in CASES if case.root == "ours" and case.host == "right" and case.negotiation == "postgres"]
DIRECT = [case for case in CASES if case.root == "ours" and case.host == "right" and case.negotiation == "direct"]


def psql(program: Path, case: Case, proxy: Proxy, roots: dict[str, str], **more: str) -> None:
    """What psql says."""
    with on_record(proxy) as session:
        given = make_conninfo(**options(case, proxy, roots), **more)
        command: list[str | Path] = [program, "-X", "-A", "-t", "-c", "SELECT 'in'", given]
        done = run(command, environment=proxy.psql_env(session["token"]), check=False)
        if case.refused is None:
            assert (done.stdout, done.stderr) == ("in\n", "")
        else:
            session["expected"] = ""
            assert case.refused in done.stderr


@pytest.mark.parametrize("case", OURS, ids=str)
def test_installed_psql(case: Case, logged_proxy: Proxy, roots: dict[str, str]) -> None:
    """Each mode of the psql that is installed, whichever version that is."""
    psql(system_psql(), case, logged_proxy, roots)


@pytest.mark.parametrize("case", OURS + DIRECT, ids=str)
def test_psql_18(case: Case, logged_proxy: Proxy, roots: dict[str, str]) -> None:
    """Each mode, negotiated and direct, in version 18."""
    (program,) = named(["psql 18"])
    if reason := program.skip():
        pytest.skip(reason)
    psql(psql_18(), case, logged_proxy, roots, sslnegotiation=case.negotiation)


@pytest.mark.parametrize("negotiation", NEGOTIATIONS)
@pytest.mark.parametrize(
    ("limits", "version"),
    [
        ({"ssl_max_protocol_version": "TLSv1.2"}, "TLSv1.2"),
        ({"ssl_min_protocol_version": "TLSv1.3"}, "TLSv1.3"),
        ({"ssl_min_protocol_version": "TLSv1.1", "ssl_max_protocol_version": "TLSv1.1"}, ""),
        ({"sslsni": "0"}, "TLSv1.3"),
    ],
    ids=str,
)
def test_other_options(
    negotiation: str, limits: dict[str, str], version: str, logged_proxy: Proxy, roots: dict[str, str]
) -> None:
    """TLS 1.2 and 1.3 are spoken, with a server name and without; 1.1 is not."""
    case = Case(mode="verify-full", negotiation=negotiation, root="ours", host="right")
    given = {**options(case, logged_proxy, roots), "sslnegotiation": negotiation, **limits}
    with on_record(logged_proxy) as session:
        session["expected"] = version
        conninfo = make_conninfo(**given, password=session["token"])
        if version:
            psycopg.connect(conninfo).close()
        else:
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(conninfo)
