"""The link against the real control service: join, directives, records, and a control that goes away and comes back."""

import asyncio
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.contract import token
from proxy.contract.directive import Kill, Revoke
from proxy.contract.record import Chain, Notice, SessionEnd, SessionStart, StatementEnd, StatementStart
from proxy.contract.token import KeySet
from proxy.contract.verification import verify_chain
from proxy.identity import load_or_create
from proxy.journal import Journal
from proxy.shipping import FAULTS_FILE
from tests.faults.journal.layer import Layer, build, lose_power
from tests.harness.certs import Authority
from tests.harness.processes import Process
from tests.harness.waiting import eventually
from tests.integration.client.service import Service
from tests.integration.link.conftest import LIMIT_BYTES, SEGMENT_BYTES, Proxy


class Control:
    """The service, and its API as a person sees it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._tls = ssl.create_default_context(cafile=service.ca_file)

    def api(self, person: str, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 whatever JSON it is
        """One call."""
        headers = {"Authorization": f"Bearer {self.service.keys[person]}"}
        with httpx2.Client(base_url=self.service.url, verify=self._tls, trust_env=False, headers=headers) as http:
            answer = http.request(method, f"/v1{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.content

    def grant(self) -> dict[str, Any]:
        """A token for dba1, with its grant."""
        body = {"target": "orders", "profile": "dba", "reason": "a test", "duration_s": 600}
        request = self.api("dba1", "POST", "/requests", body)
        approved = self.api("carol", "POST", f"/requests/{request['id']}/approve", {})
        issued: dict[str, Any] = self.api("dba1", "POST", f"/grants/{approved['grant']}/token")
        return issued

    async def stop(self) -> None:
        """SIGTERM, and wait; in a thread, because it takes both ends to close a TLS connection."""
        await asyncio.to_thread(self.service.stop)

    async def kill(self) -> None:
        """SIGKILL."""
        await asyncio.to_thread(self.service.kill)

    async def start(self) -> None:
        """Serve again."""
        self.service.launch()
        await asyncio.to_thread(self.service.listening)


@pytest.fixture(scope="module")
def real_control(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control service of this module's own, because its tests restart it."""
    with Service(tmp_path_factory.mktemp("control"), ca) as service:
        yield Control(service)


@pytest.fixture
def real_proxy(real_control: Control, ca: Authority, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy that has not joined."""
    state_dir = tmp_path / "state"
    journal = Journal.open(state_dir / "journal", segment_bytes=SEGMENT_BYTES, limit_bytes=LIMIT_BYTES)
    yield Proxy(state_dir=state_dir, url=real_control.service.url, ca_file=str(ca.file), journal=journal)
    journal.close()


class Session:
    """A session's records, written as the proxy writes them."""

    def __init__(self, proxy: Proxy, name: str) -> None:
        self._journal = proxy.journal
        self._proxy_name = name
        self._key = load_or_create(proxy.state_dir)
        self._statements = 0
        self.id = f"ses_{time.time_ns():x}"
        self.chain = Chain(self.id)
        self.lines: list[bytes] = []

    def start(self) -> None:
        """The first record."""
        record = SessionStart(
            grant="grt_1",
            person="dba1",
            expires_at=time.time_ns() + 10**12,
            target="orders",
            database="shop",
            profile="dba",
            upstream_user="owner",
            backend_pid=1,
            backend_start="2026-01-01T00:00:00.000000+00:00",
            proxy=self._proxy_name,
        )
        self.lines.append(self.chain.seal(record))
        self._journal.append_start(self.chain, self.lines[-1])

    def statement(self, sql: str = "select 1") -> None:
        """A statement and its end."""
        self._statements += 1
        begin = StatementStart(
            statement=self._statements, kind="query", sql=sql, state="I", transaction=self._statements
        )
        self.lines.append(self.chain.seal(begin))
        self._journal.append(self.lines[-1])
        done = StatementEnd(statement=self._statements, tags=["SELECT 1"], rows=1, duration=1000, state="I")
        self.lines.append(self.chain.seal(done))
        self._journal.append_lazily(self.lines[-1])

    def end(self) -> None:
        """The last record, signed."""
        end = SessionEnd(
            reason="closed",
            decided_at=time.time_ns(),
            outcome="nothing open",
            statements=self._statements,
            bytes_in=1,
            bytes_out=1,
        )
        self.lines.append(self.chain.seal_signed(end, self._key))
        self._journal.append_end(self.chain, self.lines[-1])


def stored(control: Control, session: Session) -> list[bytes]:
    """What control has of the session, once it has anything."""
    listed = control.api("eve", "GET", "/sessions?limit=100")["items"]
    if session.id not in {one["id"] for one in listed}:
        return []
    body: bytes = control.api("eve", "GET", f"/sessions/{session.id}/records")
    return body.splitlines()


async def has(control: Control, session: Session) -> bool:
    """Whether control has all of it; the link goes on meanwhile."""
    return await asyncio.to_thread(stored, control, session) == session.lines


async def test_token_verifies_with_the_keys_of_the_join(real_control: Control, real_proxy: Proxy) -> None:
    """Issuer, audience and key set are the ones that control signs with."""
    issued = real_control.grant()
    async with real_proxy.running(real_proxy.link(name="edge-1", token=real_control.service.join_token)) as link:
        await eventually(lambda: link.has_lease)
        known = link.known
        assert known is not None
        grant = token.verify(
            issued["token"],
            keys=KeySet.from_jwks(known.jwks),
            issuer=known.issuer,
            audience=known.audience,
            now=time.time(),
        )
        assert (grant.person, grant.target, grant.profile) == ("dba1", "orders", "dba")


async def test_session_reaches_control_byte_for_byte(real_control: Control, real_proxy: Proxy) -> None:
    """Its records, a statement of 5 MB among them, and control finds the chain and the signature whole."""
    session = Session(real_proxy, "edge-2")
    session.start()
    for _ in range(50):
        session.statement()
    session.statement("select '" + "x" * 5_000_000 + "'")
    session.end()
    async with real_proxy.running(real_proxy.link(name="edge-2", token=real_control.service.join_token)) as link:
        await eventually(lambda: real_proxy.journal.acknowledged == real_proxy.journal.position, within=60)
        assert link.shipper.stuck is None
    lines = stored(real_control, session)
    assert lines == session.lines
    assert verify_chain(lines, load_or_create(real_proxy.state_dir).public_key()) == len(lines)
    summary = real_control.api("eve", "GET", f"/sessions/{session.id}")
    assert (summary["proxy"], summary["statements"], summary["end_reason"]) == ("edge-2", 51, "closed")


async def test_revocation_and_kill_arrive_at_once(real_control: Control, real_proxy: Proxy) -> None:
    """What an approver decides is at the proxy well within a second."""
    issued = real_control.grant()
    session = Session(real_proxy, "edge-3")
    session.start()
    async with real_proxy.running(real_proxy.link(name="edge-3", token=real_control.service.join_token)) as link:
        await eventually(lambda: link.has_lease)
        await eventually(lambda: has(real_control, session))
        real_control.api("carol", "POST", f"/grants/{issued['grant']}/revoke", {"reason": "enough"})
        await eventually(lambda: any(isinstance(one, Revoke) for one in real_proxy.heard), within=1)
        real_control.api("carol", "POST", f"/sessions/{session.id}/kill", {"reason": "enough"})
        await eventually(lambda: any(isinstance(one, Kill) for one in real_proxy.heard), within=1)
        [told] = [one for one in real_proxy.heard if isinstance(one, Revoke)]
        assert (told.grant, told.by) == (issued["grant"], "carol")
        assert told.at <= time.time_ns()


async def test_control_comes_back_and_nothing_is_missing(real_control: Control, real_proxy: Proxy) -> None:
    """Records and a lease over a restart of control; what was revoked meanwhile is known at once."""
    first, second = Session(real_proxy, "edge-4"), Session(real_proxy, "edge-4")
    first.start()
    async with real_proxy.running(real_proxy.link(name="edge-4", token=real_control.service.join_token)) as link:
        await eventually(lambda: link.has_lease)
        await eventually(lambda: has(real_control, first))
        await real_control.stop()
        await eventually(lambda: not link.connected)
        second.start()
        for session in (first, second):
            session.statement()
            session.end()
        await real_control.start()
        await eventually(lambda: link.connected and link.has_lease, within=20)
        await eventually(lambda: has(real_control, first), within=30)
        await eventually(lambda: has(real_control, second), within=30)


async def test_control_that_is_killed_loses_nothing(real_control: Control, real_proxy: Proxy) -> None:
    """Kill -9 in the middle of shipping: every record is there once."""
    session = Session(real_proxy, "edge-5")
    session.start()
    for _ in range(3_000):
        session.statement()
    async with real_proxy.running(real_proxy.link(name="edge-5", token=real_control.service.join_token)) as link:
        await eventually(lambda: link.shipper.shipped_lines > 0)
        await real_control.kill()
        session.end()
        await real_control.start()
        await eventually(lambda: real_proxy.journal.acknowledged == real_proxy.journal.position, within=30)
    assert stored(real_control, session) == session.lines


async def test_broken_chain_is_a_fault_at_control_and_holds_up_nobody(real_control: Control, real_proxy: Proxy) -> None:
    """A line changed in the journal: control says 409, the other session's records arrive all the same."""
    broken, whole = Session(real_proxy, "edge-6"), Session(real_proxy, "edge-6")
    whole.start()
    broken.start()
    forged = Chain(broken.chain.session, next_seq=broken.chain.next_seq, head="0" * 64)
    real_proxy.journal.append(forged.seal(Notice(severity="NOTICE", sqlstate="00000", message="forged")))
    whole.statement()
    whole.end()
    async with real_proxy.running(real_proxy.link(name="edge-6", token=real_control.service.join_token)) as link:
        await eventually(lambda: real_proxy.journal.acknowledged == real_proxy.journal.position, within=60)
        assert link.shipper.faults == 1
    assert stored(real_control, whole) == whole.lines
    assert stored(real_control, broken) == broken.lines
    assert b"forged" in (real_proxy.journal.directory / FAULTS_FILE).read_bytes()


def test_power_that_is_lost_takes_nothing_that_control_has(real_control: Control, tmp_path: Path) -> None:
    """What was shipped before it was synced was written anew under the same numbers: control took that for a fraud."""
    library = build(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    service, state = real_control.service, tmp_path / "state"
    state.mkdir()
    environment = Layer(tmp_path, library).environment
    program = [sys.executable, "-m", "tests.integration.link.writer"]
    for _ in range(3):
        arguments: list[str | Path] = [state, "edge-7", service.url, service.ca_file, service.join_token()]
        with Process([*program, *arguments], environment=environment) as writer:
            writer.wait_for_output("shipped", within=60)
            writer.kill()
        lose_power(state, everything=True)
    assert [one for one in real_control.api("eve", "GET", "/faults")["items"] if one["proxy"] == "edge-7"] == []
    own = [one for one in real_control.api("eve", "GET", "/sessions?limit=100")["items"] if one["proxy"] == "edge-7"]
    assert sorted(one["end_reason"] or "" for one in own) == ["", "crashed", "crashed"]
