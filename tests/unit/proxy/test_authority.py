"""Whose grants count: a key set in a file, or a control service, whose words become the registry's deeds."""

import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy import control_link, membership, places
from proxy.authority import ControlSide
from proxy.config import Control, ProxySettings
from proxy.contract.directive import (
    Extend,
    Extension,
    Heartbeat,
    Keys,
    Kill,
    Lock,
    Locked,
    Reap,
    Revocation,
    Revoke,
    Snapshot,
    Unlock,
)
from proxy.contract.proof import public_text
from proxy.contract.settings import Secret, SettingsError
from proxy.contract.token import KeySetError
from proxy.errors import NotAdmitted
from proxy.journal import Journal
from proxy.membership import Membership
from proxy.registry import Registry
from proxy.shared import Authority
from proxy.tasks import spawn
from tests.harness import tokens
from tests.harness.ports import free_port
from tests.harness.waiting import eventually, never
from tests.unit.proxy.journals import open_journal
from tests.unit.proxy.live import Session, key_of

NO_KEYS = json.dumps({"keys": "none"})


class Stand:
    """A proxy's control side, and what it acts on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = Ed25519PrivateKey.generate()
        self.signer = tokens.Signer()
        self.registry = Registry(max_sessions=10)
        self.journal: Journal = open_journal(folder / "journal")
        self.session = Session(tokens.grant(id="grt_a"), key_of(self.signer))
        self.registry.admit(self.session)

    def settings(self, *, control: bool, **changed: str) -> ProxySettings:
        """With a control service (that is away), or alone."""
        url = f"http://127.0.0.1:{free_port()}"
        return ProxySettings(
            name="p1",
            state_dir=str(self.folder),
            tls_certificate_file="-",
            tls_key_file="-",
            control=Control(url=url, join_token=Secret(env="JOIN")) if control else None,
            **changed,  # type: ignore[arg-type]
        )

    def side(self, settings: ProxySettings) -> ControlSide:
        """The control side."""
        return ControlSide(settings, key=self.key, journal=self.journal, registry=self.registry, environment={})

    def joined(self, **changed: object) -> None:
        """Leave behind what a proxy that has joined keeps."""
        known = {"proxy": "p1", "issuer": "https://control", "audience": "fleet", "jwks": self.signer.jwks, **changed}
        membership.save(self.folder, Membership(public_key=public_text(self.key.public_key()), **known))  # type: ignore[arg-type]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """With one live session, of grant grt_a."""
    made = Stand(tmp_path)
    yield made
    made.journal.close()


def kids(authority: Authority | None) -> set[str]:
    """The ids of the keys in force."""
    return set() if authority is None else set(authority.keys._keys)


# --- alone


def alone(stand: Stand) -> ProxySettings:
    """Settings with a key set in a file."""
    (stand.folder / "jwks.json").write_text(stand.signer.jwks)
    path = str(stand.folder / "jwks.json")
    return stand.settings(control=False, jwks_file=path, issuer="https://me", audience="mine")


async def test_alone(stand: Stand) -> None:
    """The file's keys count with the configuration's names; no lease is needed, and there is nobody to follow."""
    side = stand.side(alone(stand))
    authority = side.authority()
    assert authority is not None
    assert (authority.issuer, authority.audience) == ("https://me", "mine")
    assert kids(authority) == {"test-key"}
    assert side.has_lease()
    await side.run()


def test_alone_reads_anew(stand: Stand) -> None:
    """At a reload; a file that is no key set leaves the one in force, and is named."""
    settings = alone(stand)
    side = stand.side(settings)
    before = side.authority()
    (stand.folder / "jwks.json").write_text(NO_KEYS)
    with pytest.raises(SettingsError, match=r"proxy\.jwks_file: .*jwks\.json"):
        side.reload(settings)
    assert side.authority() is before
    assert stand.session.stopped == []
    (stand.folder / "jwks.json").write_text(tokens.Signer(kid="new").jwks)
    side.reload(settings)
    after = side.authority()
    assert kids(after) == {"new"}
    assert [(reason, by) for reason, by, _ in stand.session.stopped] == [("withdrawn", None)]


@pytest.mark.parametrize("content", [None, "", NO_KEYS])
def test_alone_without_keys(stand: Stand, content: str | None) -> None:
    """A proxy that could admit nobody does not start."""
    settings = alone(stand)
    path = stand.folder / "jwks.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(SettingsError, match=r"proxy\.jwks_file"):
        stand.side(settings)


# --- with control


async def test_before_the_join_nobody_s_grants_count(stand: Stand) -> None:
    """No authority, no lease."""
    side = stand.side(stand.settings(control=True))
    assert side.authority() is None
    assert not side.has_lease()


async def test_control_cannot_be_set_up(stand: Stand) -> None:
    """Is an error of the settings."""
    (stand.folder / membership.FILE).write_text("{")
    with pytest.raises(SettingsError, match="join again"):
        stand.side(stand.settings(control=True))


async def test_what_was_kept_counts_at_once(stand: Stand) -> None:
    """With control away: keys and revocations of the last time are in force, a lease there is not."""
    revoked = Revocation(grant="grt_a", expires_at=time.time() + 600, by="eve", decided_at=7)
    stand.joined(revoked=(revoked,))
    side = stand.side(stand.settings(control=True))
    task = spawn("control side", side.run())
    try:
        await eventually(side.authority)
        assert stand.session.stopped == [("revoked", "eve", 7)]
        assert not side.has_lease()
    finally:
        task.cancel()
        await eventually(task.done)


@pytest.fixture
async def side(stand: Stand) -> ControlSide:
    """A side that knows its control, and is told directives by the test."""
    stand.joined()
    return stand.side(stand.settings(control=True))


async def test_names(stand: Stand) -> None:
    """Control's own, unless the configuration has others."""
    stand.joined()
    for changed, expected in (({}, ("https://control", "fleet")), ({"issuer": "i", "audience": "a"}, ("i", "a"))):
        side = stand.side(stand.settings(control=True, **changed))
        side._obey(Keys(cursor=1, at=1, jwks=stand.signer.jwks))
        authority = side.authority()
        assert authority is not None
        assert (authority.issuer, authority.audience) == expected


async def test_directives(stand: Stand, side: ControlSide) -> None:
    """Kill ends one session, revoke a grant's; a heartbeat does nothing."""
    other = Session(tokens.grant(id="grt_b"), key_of(stand.signer))
    stand.registry.admit(other)
    side._obey(Heartbeat(cursor=1, at=1))
    side._obey(Kill(cursor=2, at=5, session=other.id, by="eve"))
    assert (other.stopped, stand.session.stopped) == ([("killed", "eve", 5)], [])
    side._obey(Revoke(cursor=3, at=6, grant="grt_a", expires_at=time.time() + 600, by="kim"))
    assert stand.session.stopped == [("revoked", "kim", 6)]
    with pytest.raises(NotAdmitted):
        stand.registry.admit(Session(tokens.grant(id="grt_a")))


@pytest.mark.parametrize("worker", [1, 2])
async def test_one_process_reaps(stand: Stand, worker: int) -> None:
    """What another proxy left is not every worker's business."""
    stand.joined()
    heard: list[Reap] = []
    place = places.of_worker(stand.folder, worker)
    settings = stand.settings(control=True)
    known = {"key": stand.key, "journal": stand.journal, "registry": stand.registry, "place": place}
    side = ControlSide(settings, environment={}, on_reap=heard.append, **known)  # type: ignore[arg-type]
    directive = Reap(cursor=2, at=5, proxy="p9", orphans=[], by=None)
    side._obey(directive)
    assert heard == ([directive] if worker == 1 else [])


async def test_others_hear_of_grants(stand: Stand) -> None:
    """Of revocations and extensions, by directive and in a snapshot: accounts end with their grants, and move on."""
    stand.joined()
    heard: list[object] = []
    side = ControlSide(
        stand.settings(control=True),
        key=stand.key,
        journal=stand.journal,
        registry=stand.registry,
        environment={},
        on_revoked=heard.append,
        on_extended=heard.append,
    )
    longer = Extension(grant="grt_b", expires_at=2e9, by="bob", decided_at=1)
    side._obey(Revoke(cursor=1, at=1, grant="grt_a", expires_at=2e9, by="bob"))
    side._obey(Extend(cursor=2, at=2, extension=longer))
    revoked = [Revocation(grant="grt_c", expires_at=2e9, by="bob", decided_at=1)]
    side._obey(Snapshot(cursor=2, at=3, revoked=revoked, extended=[longer], jwks=stand.signer.jwks))
    assert heard == ["grt_a", longer, "grt_c", longer]


async def test_keys_that_cannot_be_read(stand: Stand, side: ControlSide) -> None:
    """The ones before stay in force, and the link is told that it was not obeyed."""
    side._obey(Keys(cursor=1, at=1, jwks=stand.signer.jwks))
    before = side.authority()
    with pytest.raises(KeySetError):
        side._obey(Keys(cursor=2, at=2, jwks=NO_KEYS))
    assert side.authority() is before is not None


async def test_revocations_count_though_the_keys_cannot_be_read(stand: Stand, side: ControlSide) -> None:
    """A snapshot with both: who is revoked is out, whatever else is wrong."""
    revoked = Revocation(grant="grt_a", expires_at=time.time() + 600, by="eve", decided_at=7)
    with pytest.raises(KeySetError):
        side._obey(Snapshot(cursor=1, at=1, revoked=[revoked], jwks=NO_KEYS))
    assert stand.session.stopped == [("revoked", "eve", 7)]


async def test_a_reload_reads_no_file(stand: Stand, side: ControlSide) -> None:
    """Where control is the source."""
    side.reload(stand.settings(control=True))
    assert side.authority() is None


@pytest.mark.parametrize("in_a_snapshot", [False, True])
async def test_keys_that_are_withdrawn(stand: Stand, side: ControlSide, in_a_snapshot: bool) -> None:  # noqa: FBT001 a table's column
    """A rotation in good order ends nobody; a key that is gone takes the sessions that it let in with it."""

    def obey(at: int, *signers: tokens.Signer) -> None:
        jwks = json.dumps({"keys": [signer.jwk for signer in signers]})
        kind = functools.partial(Snapshot, revoked=[]) if in_a_snapshot else Keys
        side._obey(kind(cursor=at, at=at, jwks=jwks))

    new = tokens.Signer(kid="new")
    obey(1, stand.signer)
    obey(2, stand.signer, new)
    assert stand.session.stopped == []
    obey(3, new)
    assert stand.session.stopped == [("withdrawn", None, 3)]


def lock(id: str = "lck_1", **names: str) -> Locked:  # noqa: A002 the field's own name
    """A lock by eve."""
    return Locked(id=id, by="eve", decided_at=7, **names)  # type: ignore[arg-type]  # names alone


async def test_locks(stand: Stand, side: ControlSide) -> None:
    """Each ends what it covers and keeps it out, until it is lifted; whatever comes out of order is taken as it is."""
    other = Session(tokens.grant(id="grt_b", person="dba2"), key_of(stand.signer))
    stand.registry.admit(other)
    side._obey(Unlock(cursor=1, at=1, lock="lck_1", by="eve"))
    side._obey(Lock(cursor=2, at=2, lock=lock(person="dba2")))
    assert (other.stopped, stand.session.stopped) == ([("locked", "eve", 7)], [])
    with pytest.raises(NotAdmitted):
        stand.registry.admit(Session(tokens.grant(person="dba2")))
    side._obey(Unlock(cursor=3, at=3, lock="lck_1", by="eve"))
    stand.registry.admit(Session(tokens.grant(person="dba2")))


async def test_a_snapshot_with_locks(stand: Stand, side: ControlSide) -> None:
    """It replaces them, and they count though its keys cannot be read."""
    side._obey(Lock(cursor=1, at=1, lock=lock(person="dba2")))
    with pytest.raises(KeySetError):
        side._obey(Snapshot(cursor=1, at=2, revoked=[], jwks=NO_KEYS, locks=[lock("lck_2", target="orders")]))
    assert stand.session.stopped == [("locked", "eve", 7)]
    stand.registry.admit(Session(tokens.grant(person="dba2", target="other")))


async def test_locks_that_were_kept_count_at_once(stand: Stand) -> None:
    """With control away."""
    stand.joined(locks=(lock(proxy="p1"), lock("lck_2", proxy="elsewhere")))
    stand.registry = Registry(max_sessions=10, proxy="p1")
    stand.registry.admit(stand.session)
    task = spawn("control side", stand.side(stand.settings(control=True)).run())
    try:
        await eventually(lambda: stand.session.stopped)
        assert stand.session.stopped == [("locked", "eve", 7)]
    finally:
        task.cancel()
        await eventually(task.done)


async def test_extensions(stand: Stand, side: ControlSide) -> None:
    """Told one by one, or in a snapshot."""
    end = stand.session.grant.expires_at
    one = Extension(grant="grt_a", expires_at=end + 1, by="eve", decided_at=7)
    side._obey(Extend(cursor=1, at=1, extension=one))
    later = Extension(grant="grt_a", expires_at=end + 2, by="eve", decided_at=8)
    side._obey(Snapshot(cursor=1, at=2, revoked=[], jwks=stand.signer.jwks, extended=[later]))
    assert stand.session.extended == [end + 1, end + 2]


@pytest.mark.parametrize("suspended", [False, True])
async def test_a_lost_lease(
    stand: Stand,
    side: ControlSide,
    monkeypatch: pytest.MonkeyPatch,
    suspended: bool,  # noqa: FBT001 a parameter of pytest's
) -> None:
    """The sessions that need one end within a second, not before; also where the machine slept in the meantime."""
    other = Session(tokens.grant(id="grt_b"), key_of(stand.signer))
    stand.registry.admit(other)
    stand.session.needs_lease = True
    link = side._link
    assert link is not None
    link._lease_s = 3600.0 if suspended else 0.6
    link._heard = control_link.now_s()
    heard = time.monotonic()
    task = spawn("control side", side.run())
    try:
        await never(lambda: stand.session.stopped, during=0.4)
        if suspended:
            now = control_link.now_s()
            monkeypatch.setattr(control_link, "now_s", lambda: now + 7200)
            link._take(Heartbeat(cursor=2, at=2))  # What waited in the socket is read first.
            assert side.has_lease()
        await eventually(lambda: stand.session.stopped, within=1.2)
        assert stand.session.stopped[0][:2] == ("lease_lost", None)
        assert time.monotonic() - heard < 1.6
        assert other.stopped == []
        late = Session(tokens.grant(id="grt_c"), key_of(stand.signer), needs_lease=True)
        stand.registry.admit(late)
        if not suspended:
            await eventually(lambda: late.stopped, within=1)
    finally:
        task.cancel()
        await eventually(task.done)


async def test_the_lease_s_clock() -> None:
    """It is the one that goes on while the machine is suspended (clock_gettime(2))."""
    assert abs(control_link.now_s() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
