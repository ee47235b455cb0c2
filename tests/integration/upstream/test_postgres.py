"""The dialler against a real PostgreSQL: TLS and SCRAM, what goes over, what comes back, and all that can fail."""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import uvloop
from structlog.testing import capture_logs

from proxy import scram
from proxy.contract.settings import AccessProfile, Secret
from proxy.upstream import UpstreamError
from proxy.wire import messages
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.roles import Login
from tests.harness.waiting import eventually
from tests.integration.upstream.stage import refused
from tests.integration.upstream.targets import dialler_of, log_in, parameters, profile_of, secret_of, server_at


@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
async def test_login(postgres: Cluster, tmp_path: Path, sslmode: str) -> None:
    """Each mode with TLS logs in by SCRAM, over TLS 1.2 or newer, and the pid is the backend's own."""
    backend = await log_in(dialler_of(postgres, tmp_path, sslmode=sslmode), profile_of(roles.APP, tmp_path))
    assert await backend.value("SELECT current_user") == roles.APP.user
    assert await backend.value("SELECT pg_backend_pid()") == str(backend.pid)
    assert await backend.value("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()") in ("TLSv1.2", "TLSv1.3")
    backend.close()


async def test_announcement_is_what_the_server_said(postgres: Cluster, tmp_path: Path) -> None:
    """The announcement has the server's parameters and nothing else, as whole messages."""
    backend = await log_in(dialler_of(postgres, tmp_path), profile_of(roles.APP, tmp_path), application_name="a b")
    said, rest = {}, backend.connected.announcement
    while rest:
        assert rest[:1] == b"S"
        end = 1 + int.from_bytes(rest[1:5])
        name, value, nothing = rest[5:end].split(b"\0")
        said[name], rest = value, rest[end:]
        assert nothing == b""
    assert said[b"application_name"] == b"a b"
    assert said[b"session_authorization"] == roles.APP.user.encode()
    assert {b"server_version", b"client_encoding", b"DateStyle", b"integer_datetimes"} <= set(said)
    backend.close()


async def test_parameters_arrive(postgres: Cluster, tmp_path: Path) -> None:
    """Startup parameters, `options` and custom settings reach the server as they are."""
    more = {"options": r"-c search_path=a\,\ b", "curfew.person": "dba1", "client_encoding": "LATIN1"}
    backend = await log_in(dialler_of(postgres, tmp_path), profile_of(roles.APP, tmp_path), **more)
    assert await backend.value("SHOW search_path") == "a, b"
    assert await backend.value("SELECT current_setting('curfew.person')") == "dba1"
    assert await backend.value("SHOW client_encoding") == "LATIN1"
    backend.close()


async def test_unix_socket(postgres: Cluster, tmp_path: Path) -> None:
    """A folder as the host means its unix socket, and TLS is then no matter, as in libpq."""
    backend = await log_in(dialler_of(postgres, tmp_path, host=str(postgres.folder)), profile_of(roles.APP, tmp_path))
    assert await backend.value("SELECT count(*) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl") == "0"
    backend.close()


async def test_socket_options(postgres: Cluster, tmp_path: Path) -> None:
    """Nothing is held back to fill a packet, and a dead peer is noticed; a living one that does not read is let be."""
    backend = await log_in(dialler_of(postgres, tmp_path), profile_of(roles.APP, tmp_path))
    sock = backend.connected.leg.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    keepalive = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
    assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in keepalive] == [60, 10, 3]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
    backend.close()


async def test_many_logins_derive_once(postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty logins at once cost one PBKDF2, and a later one none."""
    calls = []

    def derive(password: bytes, salt: bytes, iterations: int) -> scram.Keys:
        calls.append(iterations)
        return original(password, salt, iterations)

    original = scram._derive
    monkeypatch.setattr(scram, "_derive", derive)
    dialler, profile = dialler_of(postgres, tmp_path), profile_of(roles.APP, tmp_path)
    backends = await asyncio.gather(*(log_in(dialler, profile) for _ in range(20)))
    backends.append(await log_in(dialler, profile))
    assert calls == [4096]
    assert len({backend.pid for backend in backends}) == 21
    for backend in backends:
        backend.close()


@pytest.mark.parametrize("source", ["file", "command"])
async def test_password_is_read_for_each_session(own_postgres: Cluster, tmp_path: Path, source: str) -> None:
    """A password that was changed, at the server and in its source, counts for the next session, whatever is cached."""
    dialler, profile = dialler_of(own_postgres, tmp_path), profile_of(roles.APP, tmp_path)
    if source == "command":
        printed = Secret(command=["cat", str(tmp_path / f"{roles.APP.user}.secret")])
        profile = msgspec.structs.replace(profile, password=printed)
    (await log_in(dialler, profile)).close()
    own_postgres.psql(f"ALTER ROLE {roles.APP.user} PASSWORD 'another'")
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler, profile)
    refused(caught.value, roles.APP.password)
    secret_of("another", tmp_path, roles.APP.user)
    (await log_in(dialler, profile)).close()


async def test_odd_passwords(odd_postgres: Cluster, tmp_path: Path) -> None:
    """Passwords are prepared as PostgreSQL prepares them when it stores them."""
    odd_postgres.psql("CREATE ROLE curfew_odd LOGIN")
    for password in (
        " ",
        "p\u00e4ss",
        "pa\u0308ss",
        "\u2168",
        "\u00ad",
        "a\u00adb",
        "\u0627\u0031",
        "\ue000",
        "\U0001f511",
    ):
        odd_postgres.psql("ALTER ROLE curfew_odd PASSWORD :'password'", password=password)
        login = Login(user="curfew_odd", password=password)
        (await log_in(dialler_of(odd_postgres, tmp_path), profile_of(login, tmp_path))).close()


# What fails


async def test_wrong_password(postgres: Cluster, tmp_path: Path) -> None:
    """The client learns nothing, the log says loudly that the proxy's own login was refused, and not the password."""
    dialler = dialler_of(postgres, tmp_path)
    profile = profile_of(Login(user=roles.APP.user, password="canary-password"), tmp_path)
    with capture_logs() as logs, pytest.raises(UpstreamError) as caught:
        await log_in(dialler, profile)
    assert "28P01" in refused(caught.value, "canary-password")
    assert [(line["log_level"], line["user"], line["target"]) for line in logs] == [("error", profile.user, "orders")]
    assert "canary" not in str(logs)


async def test_unknown_role_and_no_login(postgres: Cluster, tmp_path: Path) -> None:
    """A login that is not there, or may not log in (28000 after its authentication), is no matter of the client's."""
    postgres.psql("CREATE ROLE curfew_nologin NOLOGIN PASSWORD 'x'")
    for user in ("curfew_nobody", "curfew_nologin"):
        with pytest.raises(UpstreamError) as caught:
            await log_in(dialler_of(postgres, tmp_path), profile_of(Login(user=user, password="x"), tmp_path))
        refused(caught.value)
    postgres.psql("DROP ROLE curfew_nologin")


async def test_no_password_configured(postgres: Cluster, tmp_path: Path) -> None:
    """A server that asks where the configuration has nothing."""
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(postgres, tmp_path), AccessProfile(user=roles.APP.user))
    assert "no password for this login" in refused(caught.value)


async def test_secret_that_is_not_there(postgres: Cluster, tmp_path: Path) -> None:
    """A secret's file that went away is an upstream failure of this session, not of the process."""
    profile = AccessProfile(user=roles.APP.user, password=Secret(file=str(tmp_path / "missing")))
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(postgres, tmp_path), profile)
    assert "missing" in refused(caught.value)


async def test_wrong_authority(postgres: Cluster, tmp_path: Path) -> None:
    """A certificate that another authority signed is refused by every mode that knows an authority."""
    other = Authority(tmp_path)
    for sslmode in ("require", "verify-ca", "verify-full"):
        dialler = dialler_of(postgres, tmp_path, sslmode=sslmode, ca_file=str(other.file))
        with pytest.raises(UpstreamError) as caught:
            await log_in(dialler, profile_of(roles.APP, tmp_path))
        assert "CERTIFICATE_VERIFY_FAILED" in refused(caught.value)


async def test_system_authorities(postgres: Cluster, tmp_path: Path) -> None:
    """Without `ca_file` the system's authorities count, and `require` alone takes any certificate."""
    profile = profile_of(roles.APP, tmp_path)
    with pytest.raises(UpstreamError):
        await log_in(dialler_of(postgres, tmp_path, sslmode="verify-full", ca_file=None), profile)
    (await log_in(dialler_of(postgres, tmp_path, sslmode="require", ca_file=None), profile)).close()


async def test_wrong_host_name(own_postgres: Cluster, ca: Authority, tmp_path: Path) -> None:
    """A certificate of the right authority for another name: verify-full refuses it, verify-ca does not."""
    ca.server("db.example", folder=own_postgres.data)
    own_postgres.reload()
    profile = profile_of(roles.APP, tmp_path)

    async def exchanged() -> bool:
        try:
            (await log_in(dialler_of(own_postgres, tmp_path), profile)).close()
        except UpstreamError as error:
            return "not valid for '127.0.0.1'" in refused(error)
        return False

    await eventually(exchanged)
    (await log_in(dialler_of(own_postgres, tmp_path, sslmode="verify-ca"), profile)).close()


async def test_server_without_tls(own_postgres: Cluster, tmp_path: Path) -> None:
    """No fallback: a server that has no TLS gets no startup packet, in any mode that asks for it."""
    own_postgres.configure(ssl="off")
    own_postgres.restart()
    for sslmode in ("require", "verify-ca", "verify-full"):
        with pytest.raises(UpstreamError) as caught:
            await log_in(dialler_of(own_postgres, tmp_path, sslmode=sslmode), profile_of(roles.APP, tmp_path))
        assert "does not speak TLS" in refused(caught.value)


async def test_nothing_listens(tmp_path: Path, postgres: Cluster) -> None:
    """A port where nothing is, a socket that is not there, a name that nobody knows."""
    for place in ({"port": free_port()}, {"host": str(tmp_path)}, {"host": "no-such-host.invalid"}, {"host": "a..b"}):
        with pytest.raises(UpstreamError) as caught:
            await log_in(dialler_of(postgres, tmp_path, **place), profile_of(roles.APP, tmp_path))
        refused(caught.value)


async def test_every_address_is_tried(postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name's first address is a black hole and its second one refuses; the third is the server."""
    with socket.socket() as full:
        full.bind(("127.0.0.2", postgres.port))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # the one place in the queue: the next SYN is dropped
            addresses = [("127.0.0.2", postgres.port), ("127.0.0.3", postgres.port), ("127.0.0.1", postgres.port)]

            async def resolve(*_given: object, **_named: object) -> list[object]:
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
            dialler = dialler_of(postgres, tmp_path, connect_timeout_s=3.0)
            (await log_in(dialler, profile_of(roles.APP, tmp_path))).close()


@pytest.mark.parametrize("sslmode", ["disable", "verify-full"])
async def test_black_hole(tmp_path: Path, postgres: Cluster, sslmode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that never answers costs the connect timeout and no more; a cancel, a little longer."""
    monkeypatch.setattr("proxy.upstream.CANCEL_EOF_S", 0.3)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        port = hole.getsockname()[1]
        dialler = dialler_of(postgres, tmp_path, port=port, sslmode=sslmode, connect_timeout_s=0.3)
        async with asyncio.timeout(2):
            with pytest.raises(UpstreamError) as caught:
                await log_in(dialler, profile_of(roles.APP, tmp_path))
            assert "not ready within 0.3 s" in refused(caught.value)
            with pytest.raises(UpstreamError):
                await dialler.cancel(server_at(port), 1, b"1234")


async def test_cancelled_while_connecting(tmp_path: Path, postgres: Cluster) -> None:
    """Whoever gives up while the server is silent leaves no socket behind: the server sees the end at once."""
    loop = asyncio.get_running_loop()
    with socket.socket() as hole:
        hole.setblocking(False)  # noqa: FBT003 the standard library's signature
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        dialler = dialler_of(postgres, tmp_path, port=hole.getsockname()[1], sslmode="disable")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await log_in(dialler, profile_of(roles.APP, tmp_path))
        accepted, _ = await loop.sock_accept(hole)
        with accepted:
            async with asyncio.timeout(2):
                startup = await loop.sock_recv(accepted, 1_000)
                assert roles.APP.user.encode() in startup
                with suppress(ConnectionResetError):  # as good as the end of the stream
                    assert await loop.sock_recv(accepted, 1) == b""


@pytest.mark.parametrize(
    ("more", "sqlstate", "text"),
    [
        ({"database": "nodb"}, "3D000", 'database "nodb" does not exist'),
        ({"nosuch_setting": "1"}, "42704", "unrecognized configuration parameter"),
        ({"work_mem": "lots"}, "22023", "invalid value for parameter"),
        ({"options": "--nonsense"}, "42601", "requires a value"),
    ],
)
async def test_the_clients_own_mistakes(
    postgres: Cluster, tmp_path: Path, more: dict[str, str], sqlstate: str, text: str
) -> None:
    """What the client's startup parameters did wrong is told to the client, as PostgreSQL tells it."""
    profile = profile_of(roles.APP, tmp_path)
    startup = dict([*parameters(profile.login), *((name.encode(), value.encode()) for name, value in more.items())])
    with pytest.raises(UpstreamError) as caught:
        await dialler_of(postgres, tmp_path).connect(profile, list(startup.items()))
    assert caught.value.sqlstate == sqlstate
    assert text in caught.value.public


async def test_too_many_clients(postgres: Cluster, tmp_path: Path) -> None:
    """53300 goes to the client: it may try again."""
    postgres.psql(f"ALTER ROLE {roles.READONLY.user} CONNECTION LIMIT 0")
    try:
        with pytest.raises(UpstreamError) as caught:
            await log_in(dialler_of(postgres, tmp_path), profile_of(roles.READONLY, tmp_path))
    finally:
        postgres.psql(f"ALTER ROLE {roles.READONLY.user} CONNECTION LIMIT -1")
    assert caught.value.sqlstate == "53300"
    assert "too many connections for role" in caught.value.public


async def test_nul_in_a_parameter(postgres: Cluster, tmp_path: Path) -> None:
    """A NUL would end a name early and begin another parameter: it never leaves the proxy."""
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(postgres, tmp_path), profile_of(roles.APP, tmp_path), database="a\0options\0-c x=y")
    refused(caught.value)


# Cancel


@pytest.mark.parametrize("place", ["tls", "unix"])
async def test_cancel(postgres: Cluster, tmp_path: Path, place: str) -> None:
    """A cancel request stops the statement, and the session lives on."""
    changed = {"host": str(postgres.folder)} if place == "unix" else {}
    dialler = dialler_of(postgres, tmp_path, **changed)
    backend = await log_in(dialler, profile_of(roles.APP, tmp_path))
    backend.send("SELECT pg_sleep(60)")

    async def sleeps() -> bool:
        rows = await postgres.sql("SELECT wait_event FROM pg_stat_activity WHERE pid = $1", backend.pid)
        return bool(rows[0]["wait_event"] == "PgSleep")

    await eventually(sleeps)
    await dialler.cancel(backend.connected.server, backend.pid, b"nope")  # the wrong secret does nothing
    await dialler.cancel(backend.connected.server, backend.pid, backend.connected.secret)
    async with asyncio.timeout(5):
        kinds = [await backend.read() for _ in range(3)]
    assert messages.parse_error(kinds[1][1])["C"] == "57014"
    assert await backend.value("SELECT 1") == "1"
    backend.close()


async def test_cancel_is_bounded(tmp_path: Path, postgres: Cluster) -> None:
    """Sixteen cancels wait for a server that does not answer; one more waits its turn, and not for ever."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(100)
        dialler = dialler_of(postgres, tmp_path, connect_timeout_s=0.5)
        server = server_at(hole.getsockname()[1])
        tasks = [asyncio.ensure_future(dialler.cancel(server, 1, b"1234")) for _ in range(20)]  # noqa: TID251 ended below
        done, waiting = await asyncio.wait(tasks, timeout=2)
        assert len(done) == 4
        assert all(isinstance(task.exception(), UpstreamError) for task in done)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert dialler._cancels._value == 16


def test_on_uvloop(postgres: Cluster, tmp_path: Path) -> None:
    """The loop that production runs on does all of it too: TLS, a unix socket, a cancel, a refusal."""

    async def story() -> None:
        profile = profile_of(roles.APP, tmp_path)
        for changed in ({}, {"host": str(postgres.folder)}):
            dialler = dialler_of(postgres, tmp_path, **changed)
            backend = await log_in(dialler, profile)
            assert await backend.value("SELECT current_user") == profile.user
            await dialler.cancel(backend.connected.server, backend.pid, backend.connected.secret)
            backend.close()
        with pytest.raises(UpstreamError):
            await log_in(dialler_of(postgres, tmp_path, ca_file=None), profile)
        with pytest.raises(UpstreamError):
            await log_in(dialler_of(postgres, tmp_path, port=free_port()), profile)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
