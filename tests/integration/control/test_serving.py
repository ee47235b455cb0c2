"""The service's life: start, TLS, kill -9, SIGTERM with everything open."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from pathlib import Path

import httpx2
import pytest

from control.connections import SILENCE_S
from control.tasks import spawn
from proxy.contract.directive import Heartbeat, Keys, Lock, Revoke, Snapshot, Unlock
from proxy.contract.record import Chain
from tests.harness.waiting import eventually
from tests.integration.control.service import Service
from tests.unit.control.desk import statement
from tests.unit.control.evidence.test_chain import start


async def test_it_serves_over_tls(service: Service) -> None:
    """With its own certificate, from TLS 1.2 on, and not in clear."""
    assert (await service.call("ada", "GET", "/v1/me"))["name"] == "ada"
    with pytest.raises(httpx2.ConnectError):
        async with httpx2.AsyncClient(trust_env=False) as stranger:
            await stranger.get(f"{service.url}/livez")
    with pytest.raises(httpx2.HTTPError):
        async with httpx2.AsyncClient(trust_env=False) as plain:
            await plain.get(f"{service.url.replace('https', 'http')}/livez")
    async with service.client() as client:
        answer = await client.get("/livez")
        assert answer.headers["strict-transport-security"]
        assert "server" not in answer.headers


async def test_it_ends_at_once_with_everything_open(service: Service) -> None:
    """A stream of directives, a waiting request and an idle connection: none of them holds up SIGTERM."""
    edge = await service.edge()
    asked = {"target": "orders", "profile": "readonly", "reason": "look"}
    request = await service.call("ada", "POST", "/v1/requests", asked)
    async with edge.follow() as stream, service.client("ada") as idle:
        await stream.next(Heartbeat)
        await idle.get("/v1/me")
        waiting = spawn("wait", service.call("ada", "GET", f"/v1/requests/{request['id']}?wait_s=60"))
        await asyncio.sleep(0.2)  # nothing tells when the request has come as far as its wait
        code, seconds = await asyncio.to_thread(service.stop)
        assert (await waiting)["state"] == "pending"
        assert await stream.ended()
    assert code == 0
    assert seconds < 3, "the grace would be ten"


async def test_a_session_is_followed_until_the_service_ends(service: Service) -> None:
    """Each record at once, byte for byte; and a stream that is open ends in good order, and holds up nothing."""
    edge = await service.edge()
    chain = Chain("live")
    lines = [chain.seal(one) for one in (start(), *statement(1))]
    assert (await edge.ship(lines[0])).is_success
    async with (
        service.client("root") as client,
        client.stream("GET", "/v1/sessions/live/records", params={"follow": "true"}) as answer,
    ):
        stream = answer.aiter_lines()
        got = [await anext(stream)]
        for line in lines[1:]:
            assert (await edge.ship(line)).is_success
            async with asyncio.timeout(5):
                while len(got) <= lines.index(line):
                    got += [one] if (one := await anext(stream)) else []
        code, seconds = await asyncio.to_thread(service.stop)
        assert not [one async for one in stream if one]
    assert [one.encode() for one in got] == lines
    assert code == 0
    assert seconds < 3, "the grace would be ten"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_exit_code_0(service: Service, number: signal.Signals) -> None:
    """It was asked to."""
    assert service.stop(number)[0] == 0
    assert service.process is not None
    assert "Traceback" not in service.process.output


async def test_a_client_that_reads_nothing_is_ended_too(service: Service) -> None:
    """Its socket is full; the service's end does not wait for it."""
    edge = await service.edge()
    context = service.ca.client_context()
    port = int(service.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        path = "/v1/directives?after=0"
        proof = edge.signed("GET", path)["authorization"]
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {proof}\r\n\r\n".encode())
        await eventually(lambda: _connected(service))
        code, seconds = await asyncio.to_thread(service.stop)
    assert (code, seconds < 5) == (0, True)


async def _connected(service: Service) -> bool:
    return bool((await service.call("root", "GET", "/v1/proxies"))["items"][0]["connected"])


async def test_a_proxy_that_hangs_up_is_noticed(service: Service) -> None:
    """The stream is closed, and the next one is its own."""
    edge = await service.edge()
    async with edge.follow() as stream:
        await stream.next(Snapshot)
        assert await _connected(service)
    await eventually(lambda: _gone(service))


async def _gone(service: Service) -> bool:
    return not await _connected(service)


async def test_a_revocation_is_heard_at_once(service: Service) -> None:
    """Well before the next heartbeat."""
    edge, grant = await service.edge(), await service.grant()
    async with edge.follow() as stream:
        await stream.next(Heartbeat)
        await service.revoke(grant)
        revoke = await stream.next(within=1.0)
    assert isinstance(revoke, Revoke)
    assert revoke.grant == grant


async def test_what_was_answered_survives_kill_9(service: Service) -> None:
    """A revocation that was answered is there, and told; the stored records too."""
    edge, grant = await service.edge(), await service.grant()
    async with edge.follow() as stream:
        cursor = (await stream.next(Snapshot)).cursor
    await service.revoke(grant)
    assert service.process is not None
    service.process.kill()
    service.start()
    assert (await service.call("ada", "GET", f"/v1/grants/{grant}"))["state"] == "revoked"
    async with edge.follow(cursor) as stream:
        snapshot, revoke = await stream.next(), await stream.next()
    assert isinstance(snapshot, Snapshot)
    assert [one.grant for one in snapshot.revoked] == [grant]
    assert isinstance(revoke, Revoke)


async def test_the_command_works_while_it_serves(service: Service) -> None:
    """Somebody new can use it, and a rotation is heard by the proxies without a restart."""
    edge = await service.edge()
    async with edge.follow() as stream:
        await stream.next(Heartbeat)
        kid = (await asyncio.to_thread(service.command, "rotate-keys"))[1]
        keys = await stream.next(Keys)
    assert isinstance(keys, Keys)
    assert kid in keys.jwks
    service.keys["dan"] = service.command("person", "add", "dan", "--role", "auditor", "--full-name", "Dan")[1]
    assert (await service.call("dan", "GET", "/v1/me"))["full_name"] == "Dan"


def test_systemd_is_told(ready: Service, tmp_path: Path) -> None:
    """READY when it listens, STOPPING when it ends."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(10)
        ready.start(NOTIFY_SOCKET=path)
        assert listener.recv(100) == b"READY=1"
        assert ready.stop()[0] == 0
        assert listener.recv(100) == b"STOPPING=1"


async def test_garbage_on_the_port(service: Service) -> None:
    """Half a handshake, no TLS, a header without an end: nobody else notices."""
    port = int(service.url.rpartition(":")[2])
    context = service.ca.client_context()
    silent = socket.create_connection(("127.0.0.1", port))
    with socket.create_connection(("127.0.0.1", port)) as plain, contextlib.suppress(ConnectionResetError):
        plain.settimeout(10)
        plain.sendall(os.urandom(1_000))
        while plain.recv(1_000):
            pass
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.settimeout(10)
        tls.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 200_000)
        assert tls.recv(100).startswith(b"HTTP/1.1 400")
    assert (await service.call("ada", "GET", "/v1/me"))["name"] == "ada"
    silent.close()


async def test_a_large_body_is_refused_before_it_has_come(service: Service) -> None:
    """The answer comes, and the connection goes: nobody waits for the rest."""
    port = int(service.url.rpartition(":")[2])
    context = service.ca.client_context()
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.settimeout(10)
        tls.sendall(
            b"POST /v1/requests HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10000000\r\n\r\n" + b"x" * 1_000
        )
        answer = b""
        while chunk := tls.recv(10_000):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"urn:curfew:problem:content-too-large" in answer


async def test_silent_connections_are_ended(service: Service) -> None:
    """Nothing said, half a head, a body that does not come: hung up on, while others are served."""
    port = int(service.url.rpartition(":")[2])
    context = service.ca.client_context()
    words = (b"", b"GET /livez HTTP/1.1\r\nHost:", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.ExitStack() as stack:
        silent = []
        for said in words:
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            silent.append(stack.enter_context(context.wrap_socket(raw, server_hostname="localhost")))
            silent[-1].sendall(said)
            silent[-1].settimeout(SILENCE_S + 5)
        assert (await service.call("ada", "GET", "/v1/me"))["name"] == "ada"
        for one in silent:
            assert await asyncio.to_thread(_read_to_the_end, one)


def _read_to_the_end(client: ssl.SSLSocket) -> bool:
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while client.recv(1_000):
            pass
    return True


async def test_a_reload(service: Service) -> None:
    """SIGHUP takes up targets and the certificate's files; a broken configuration changes nothing."""
    assert service.process is not None
    good = service.config.read_text()
    service.config.write_text(good.replace("[targets.orders]", "[targets.billing]"))
    new = service.ca.server(stem="control", folder=service.config.parent).certificate.read_text()
    service.process.signal(signal.SIGHUP)
    service.process.wait_for_output('"event": "reloaded"')
    assert [one["name"] for one in (await service.call("ada", "GET", "/v1/targets"))["items"]] == ["billing"]
    port = int(service.url.rpartition(":")[2])
    shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
    assert shown.strip() in new
    service.config.write_text(good.replace("state_dir", "state_dri"))
    service.process.signal(signal.SIGHUP)
    service.process.wait_for_output("not reloaded")
    assert [one["name"] for one in (await service.call("ada", "GET", "/v1/targets"))["items"]] == ["billing"]


async def test_locks_and_extensions_survive_a_kill(service: Service) -> None:
    """What was answered is on disk: whoever comes back finds both in the first line, and lifting is for good."""
    edge, grant = await service.edge(), await service.grant()
    more = await service.call("ada", "POST", f"/v1/grants/{grant}/extensions", {"duration_s": 60, "reason": "x"})
    await service.call("carol", "POST", f"/v1/requests/{more['id']}/approve", {})
    async with edge.follow() as stream:
        await stream.next(Heartbeat)
        lock = await service.call("carol", "POST", "/v1/locks", {"everything": True, "reason": "a fire"})
        told = await stream.next(Lock, within=1)
        assert isinstance(told, Lock)
        assert (told.lock.id, told.lock.by) == (lock["id"], "carol")
    service.stop(signal.SIGKILL)
    service.start()
    async with edge.follow() as stream:
        first = await stream.next(Snapshot)
        assert isinstance(first, Snapshot)
        assert [one.id for one in first.locks] == [lock["id"]]
        assert [one.grant for one in first.extended] == [grant]
        await service.call("carol", "POST", f"/v1/locks/{lock['id']}/lift")
        assert (await stream.next(Unlock, within=1)).at > told.at
    async with edge.follow() as stream:
        first = await stream.next(Snapshot)
        assert isinstance(first, Snapshot)
        assert first.locks == []
