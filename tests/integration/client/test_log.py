"""The log as an auditor sees it: every way to tamper with the stored records is tried, found, and named."""

import io
import json
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from control.client import checking, heads, offline, verifying
from control.client.errors import ClientError
from control.client.reporting import Report
from proxy.contract import checkpoint
from proxy.contract.record import Chain, decode
from tests.harness.certs import Authority
from tests.integration.client.person import Person
from tests.integration.client.service import Edge, Service
from tests.integration.client.test_evidence import new_session, story

STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
Lines = list[bytes]


class House:
    """A control service of its own, its store within reach, a proxy, and an auditor who calls the command in here."""

    def __init__(self, folder: Path, ca: Authority) -> None:
        self.folder = folder
        self.service = Service(folder, ca)
        self.store = folder / "state" / "control.sqlite3"

    def start(self) -> None:
        """Set it up."""
        self.service.__enter__()
        self.edge = Edge(self.service)
        self.auditor = Person(home=self.folder, variables=self.service.variables("eve"))

    def close(self) -> None:
        """Take it down, however far it got."""
        self.service.kill()
        if hasattr(self, "edge"):
            self.edge.close()

    def session(self) -> tuple[str, Lines]:
        """A session with its lines, sent."""
        name = new_session()
        return name, self.edge.send(name, *story())

    def edit(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Change the books behind the service's back."""
        with closing(sqlite3.connect(self.store, timeout=30)) as books, books:
            for statement, values in statements:
                assert books.execute(statement, values).rowcount

    def replace(self, session: str, lines: Lines) -> None:
        """Have the books say that these are the session's records."""
        of = "session = (SELECT number FROM sessions WHERE id = ?)"
        with closing(sqlite3.connect(self.store, timeout=30)) as books, books:
            leaves = [row[0] for row in books.execute(f"SELECT leaf FROM records WHERE {of} ORDER BY seq", (session,))]
            books.execute(f"DELETE FROM records WHERE {of}", (session,))
            for place, line in enumerate(lines):
                leaf = leaves[place] if place < len(leaves) else None
                values = (session, place, line, leaf)
                books.execute("INSERT INTO records SELECT number, ?2, ?3, ?4 FROM sessions WHERE id = ?1", values)

    def verify(self, session: str, **options: Any) -> Report:  # noqa: ANN401 as `_verify_session`
        """What `curfew verify` finds."""
        keys = [checking.public_key(self.edge.public_key)]
        return verifying._verify_session(session, keys, options.get("log"), options.get("older", []))

    def log_key(self) -> heads.LogKey:
        """The log's."""
        return heads.parse_key(self.edge._http.get("/v1/log/key").text)

    def head(self, path: Path) -> Path:
        """The head of now, in a file, as it is published."""
        path.write_text(self.edge._http.get("/v1/log/checkpoint").text)
        return path

    def export(self, path: Path, *arguments: str) -> Path:
        """A bundle."""
        self.auditor.ok("export", *arguments, "--bundle", str(path))
        return path


@pytest.fixture(scope="module")
def house(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all tests here that leave the log itself alone."""
    house = House(tmp_path_factory.mktemp("house"), ca)
    try:
        house.start()
        yield house
    finally:
        house.close()


@pytest.fixture(autouse=True)
def _as_auditor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process's environment; what was seen of logs is seen in this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if "house" in request.fixturenames:
        login(request.getfixturevalue("house"), monkeypatch)


def login(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the house's auditor."""
    for name, value in house.service.variables("eve").items():
        monkeypatch.setenv(name, value)


def edited(line: bytes) -> bytes:
    """The same line with other words."""
    return line.replace(b"COPY t FROM stdin", b"SELECT 1")


def forged(lines: Lines) -> Lines:
    """The statement is another one, and the chain was made anew behind it; the signature stays what it was."""
    chain, made = Chain(decode(lines[0]).session), []
    for line in lines:
        record = decode(edited(line))
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        head = {"v", "seq", "at", "session", "prev"}
        made.append(chain.seal(type(record)(**{k: v for k, v in fields.items() if k not in head}), at=record.at))
    return made


TAMPERED: list[tuple[str, Callable[[Lines], Lines], int, str]] = [
    ("edit", lambda own: [*own[:3], edited(own[3]), *own[4:]], 3, "it was changed"),
    ("edit, chain made anew", forged, 3, "it was changed"),
    ("edit of the last", lambda own: [*own[:-1], own[-1].replace(b'"expired"', b'"revoked"')], 8, "not signed by"),
    ("deletion", lambda own: [*own[:4], *own[5:]], 4, "it is missing: record 5 stands in its place"),
    ("swap", lambda own: [*own[:4], own[5], own[4], *own[6:]], 4, "they were swapped"),
    ("duplicate", lambda own: [*own[:5], own[4], *own[5:]], 5, "record 4 stands here again"),
    ("cut tail", lambda own: own[:6], 6, "the tail was cut: the log has 3 more"),
    ("all of it", lambda own: own[:0], 0, "the tail was cut: the log has 9 more"),
    ("addition", lambda own: [*own, own[-1]], 9, "record 8 stands here again"),
    ("garbage", lambda own: [*own[:2], b"no record\x1b[2J", *own[3:]], 2, ""),
]


@pytest.mark.parametrize(
    ("tamper", "seq", "named"),
    [one[1:] for one in TAMPERED if one[0] not in {"cut tail", "all of it"}],
    ids=[one[0] for one in TAMPERED if one[0] not in {"cut tail", "all of it"}],
)
def test_tampering_with_the_store_is_found(
    house: House, tamper: Callable[[Lines], Lines], seq: int, named: str
) -> None:
    """By the chain or by the log; the first bad record is named."""
    session, lines = house.session()
    good = house.verify(session)
    assert good.ok
    assert (good.sessions[0].log, good.sessions[0].signature) == ("proven", "good")
    house.replace(session, tamper(lines))
    (found,) = house.verify(session).sessions
    assert (found.seq, found.log, found.signature) == (seq, "not checked", "not checked")
    assert named in (found.fault or "")


def test_a_tail_cut_in_the_store_is_found(house: House) -> None:
    """The chain has no end then. Which records are gone, the store cannot prove any more; a full export shows that."""
    session, lines = house.session()
    house.replace(session, lines[:6])
    (found,) = house.verify(session).sessions
    assert found.seq == 6
    assert "its tail was cut" in (found.fault or "")


def test_a_session_signed_with_a_foreign_key_is_found(house: House) -> None:
    """Though control took it in: it had been told of that key."""
    session, lines = house.session()
    keys = [STRANGER.public_key()]
    (found,) = verifying._verify_session(session, keys, None, []).sessions
    assert (found.seq, found.fault) == (len(lines) - 1, "the last record is not signed by this proxy")


def test_a_running_session_is_not_yet_proven(house: House) -> None:
    """It has no signed end, but it is no contradiction to the log."""
    session = new_session()
    house.edge.send(session, *story()[:4])
    report = house.verify(session)
    assert report.log is not None
    assert report.log.fault is None
    assert "still running" in (report.sessions[0].fault or "")


@pytest.fixture(scope="module")
def bundle(house: House) -> tuple[Path, str, Lines]:
    """A bundle of three sessions, of which the second is tampered with."""
    (first, _), (session, lines), (last, _) = house.session(), house.session(), house.session()
    return house.export(house.folder / "bundle.tar", first, session, last), session, lines


def members(path: Path) -> dict[str, bytes]:
    """A bundle's files."""
    with tarfile.open(path) as tar:
        return {one.name: file.read() for one in tar if (file := tar.extractfile(one)) is not None}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """A bundle of these."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            tar.addfile(one, io.BytesIO(content))
    return path


def offline_report(house: House, path: Path, **options: Any) -> Report:  # noqa: ANN401 as `verify_bundle`
    """What is found in a bundle, with pinned keys."""
    keys = options.get("keys") or [checking.public_key(house.edge.public_key)]
    return offline.verify_bundle(path, keys, options.get("log") or house.log_key(), options.get("older", []))


@pytest.mark.parametrize("tampering", TAMPERED, ids=[one[0] for one in TAMPERED])
def test_tampering_with_a_bundle_is_found(
    house: House,
    bundle: tuple[Path, str, Lines],
    tmp_path: Path,
    tampering: tuple[str, Callable[[Lines], Lines], int, str],
) -> None:
    """In the one session, and nowhere else."""
    _, tamper, seq, named = tampering
    path, session, lines = bundle
    assert offline_report(house, path).ok
    files = members(path)
    assert files[f"sessions/{session}.ndjson"] == b"".join(line + b"\n" for line in lines)
    files[f"sessions/{session}.ndjson"] = b"".join(line + b"\n" for line in tamper(lines))
    first, found, last = offline_report(house, pack(tmp_path / "bundle", files)).sessions
    assert (first.fault, last.fault, first.log, last.log) == (None, None, "proven", "proven")
    assert (found.session, found.seq, found.log, found.signature) == (session, seq, "not checked", "not checked")
    assert named in (found.fault or "")


def test_a_session_missing_from_a_bundle_is_named(
    house: House, bundle: tuple[Path, str, Lines], tmp_path: Path
) -> None:
    """Its records, or their proof."""
    path, session, _ = bundle
    for lacking, named in (("ndjson", "is missing: the bundle claims 9 records"), ("proof.json", "has no sessions/")):
        files = members(path)
        del files[f"sessions/{session}.{lacking}"]
        found = offline_report(house, pack(tmp_path / lacking, files)).sessions[1]
        assert found.session == session
        assert named in (found.fault or "")


def test_foreign_keys_in_a_bundle_are_found(house: House, bundle: tuple[Path, str, Lines], tmp_path: Path) -> None:
    """The log's and the proxy's: what is given counts, not what the bundle says."""
    path, _, _ = bundle
    stranger = heads.parse_key(checkpoint.verifier_key("localhost", STRANGER.public_key()))
    report = offline_report(house, path, log=stranger)
    assert report.log is not None
    assert "a foreign key" in (report.log.fault or "")
    report = offline_report(house, path, keys=[STRANGER.public_key()])
    assert {(one.seq, one.fault) for one in report.sessions} == {(8, "the last record is not signed by this proxy")}
    files = members(path)
    files["bundle.json"] = files["bundle.json"].replace(house.log_key().text.encode(), stranger.text.encode())
    assert not offline.verify_bundle(pack(tmp_path / "bundle", files), [], None, []).ok


def test_what_a_bundle_is_not(house: House, bundle: tuple[Path, str, Lines], tmp_path: Path) -> None:
    """Files of its own, names twice, links, other versions, garbage, pieces: said in words."""
    path, session, _ = bundle
    files = members(path)
    report = offline_report(house, pack(tmp_path / "more", files | {"sessions/x.ndjson": b""}))
    assert report.log is not None
    assert "does not claim: sessions/x.ndjson" in (report.log.fault or "")
    link = tarfile.TarInfo("sessions/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    twice = tarfile.TarInfo(f"sessions/{session}.ndjson")
    for one, named in ((link, "not a plain file"), (twice, "twice")):
        other = tmp_path / named.replace(" ", "")
        other.write_bytes(path.read_bytes())
        with tarfile.open(other, "a") as tar:
            tar.addfile(one)
        with pytest.raises(ClientError, match=named):
            offline_report(house, other)
    with tarfile.open(path) as tar:
        last = max(one.offset_data + one.size for one in tar)
    whole = path.read_bytes()
    for cut in range(0, last, 997):
        (tmp_path / "cut").write_bytes(whole[:cut])
        with suppress(ClientError):
            assert not offline_report(house, tmp_path / "cut").ok


def test_older_heads_hold(house: House, tmp_path: Path) -> None:
    """Online and from a bundle that was exported with them; without, the bundle says that it cannot show it."""
    session, _ = house.session()
    old = house.head(tmp_path / "old")
    house.session()
    report = house.verify(session, older=[old])
    assert report.log is not None
    size = checkpoint.verify(old.read_text(), house.log_key().key, origin="localhost").size
    assert report.ok
    assert report.log.begins_with == [size]
    with_it = house.export(tmp_path / "with", session, "--head", str(old))
    report = offline_report(house, with_it, older=[old])
    assert report.ok
    without = offline_report(house, house.export(tmp_path / "without", session), older=[old]).log
    assert without is not None
    assert "cannot show" in (without.fault or "")
    house.session()
    newer = house.head(tmp_path / "newer")
    rolled = offline_report(house, with_it, older=[newer]).log
    assert rolled is not None
    assert "ROLLED BACK" in (rolled.fault or "")
    assert rolled.contradicting[0] == newer.read_text()


def test_the_command_says_it_harmlessly(house: House, bundle: tuple[Path, str, Lines], tmp_path: Path) -> None:
    """In lines and in JSON, with exit codes; keys that were not given are said to be the bundle's own."""
    path, session, _ = bundle
    done = house.auditor.run("verify", str(path))
    assert done.returncode == 0
    assert done.stdout.count("chain whole, signed by proxy edge, all in the log") == 3
    assert "NOT PINNED: --proxy-key and --log-key" in done.stderr
    files = members(path)
    files[f"sessions/{session}.ndjson"] = b'{"session":"\x1b[2J"}\n'
    files["bundle.json"] = files["bundle.json"].replace(session.encode(), session.encode() + b"\\u001b[2J")
    hostile = pack(tmp_path / "hostile", files)
    done = house.auditor.run("verify", str(hostile))
    assert done.returncode == 1
    assert "BAD: " in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    keys = ("--log-key", house.log_key().text, "--proxy-key", house.edge.public_key)
    told = json.loads(house.auditor.ok("verify", str(path), "--json", *keys))
    assert (told["ok"], told["log"]["pinned"], len(told["sessions"])) == (True, True, 3)
    again = house.auditor.refused("export", session, "--bundle", str(path))
    assert "never overwritten" in again
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_log_itself_tampered_with(ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is gone, the store is rolled back, goes on from there, and gets a foreign key: each by its name."""
    house = House(tmp_path, ca)
    try:
        house.start()
        login(house, monkeypatch)
        _the_log_itself(house, tmp_path)
    finally:
        house.close()


def _the_log_itself(house: House, folder: Path) -> None:
    first, _ = house.session()
    assert house.verify(first).ok
    house.service.stop()
    backup = house.store.read_bytes()
    house.service.start()
    gone, _ = house.session()
    report = house.verify(first)
    assert report.ok
    assert report.log is not None
    assert (report.log.size, report.log.pinned) == (18, True)
    assert offline_report(house, house.export(folder / "full", "--all")).ok
    house.edge.send(new_session(), *story()[:4])
    house.edit(
        ("DELETE FROM records WHERE leaf BETWEEN 9 AND 17", ()),
        ("DELETE FROM sessions WHERE id = ?", (gone,)),
    )
    report = offline_report(house, house.export(folder / "lacking", "--all"))
    assert ["still running" in (one.fault or "") for one in report.sessions] == [False, True]
    lacking = report.log
    assert lacking is not None
    assert "a session is missing: 9 records of the log, from number 9 on" in (lacking.fault or "")
    house.service.stop()
    house.store.write_bytes(backup)
    house.service.start()
    said = house.verify(first).log
    assert said is not None
    assert "ROLLED BACK: it had 18 records, and has 9 now" in (said.fault or "")
    assert [note.splitlines()[1] for note in said.contradicting] == ["18", "9"]
    house.session()
    house.session()
    said = house.verify(first).log
    assert said is not None
    assert "REWRITTEN: its first 18 records are not what they were" in (said.fault or "")
    assert [note.splitlines()[1] for note in said.contradicting] == ["18", "27"]
    _with_a_foreign_key(house, first)


def _with_a_foreign_key(house: House, session: str) -> None:
    house.service.stop()
    pem = STRANGER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (house.folder / "state" / "keys" / "log.pem").write_bytes(pem)
    house.service.launch()
    with pytest.raises(Exception, match="has not signed the heads of the log localhost: put the key back"):
        house.service.listening()
    house.edit(("DELETE FROM heads", ()))
    house.service.start()
    said = house.verify(session).log
    assert said is not None
    assert "the log has a foreign key" in (said.fault or "")
