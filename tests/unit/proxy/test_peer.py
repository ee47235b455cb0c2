"""Where connections come from: what the kernel says, whom a load balancer names, and who may come by a unix socket."""

import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import msgspec
import pytest

from proxy import peer
from proxy.config import ProxySettings, UnixSocket
from proxy.contract.grant import parse_address
from proxy.errors import ClientGone
from proxy.peer import Origins, Peer, read_header
from proxy.wire.proxy_header import HeaderError
from tests.harness.load_balancer import header

BASE = {"name": "p", "tls_certificate_file": "c", "tls_key_file": "k", "jwks_file": "j", "issuer": "i", "audience": "a"}


def origins(**changed: Any) -> Origins:  # noqa: ANN401 whatever [proxy] has
    """As configured, but for what is `changed`."""
    return Origins(msgspec.convert({**BASE, **changed}, ProxySettings))


@pytest.fixture
def unix() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a unix socket, for the event loop."""
    near, far = socket.socketpair()
    with closing(near), closing(far):
        for end in (near, far):
            end.setblocking(False)  # noqa: FBT003 the socket module takes it by position
        yield near, far


@pytest.mark.parametrize(
    ("users", "barred"),
    [
        ([], False),
        ([str(os.getuid())], False),
        ([pwd.getpwuid(os.getuid()).pw_name], False),
        ([str(os.getuid() + 1), str(os.getuid())], False),
        ([str(os.getuid() + 1)], True),
    ],
)
def test_users(unix: tuple[socket.socket, socket.socket], users: list[str], barred: bool) -> None:  # noqa: FBT001 a table's column
    """By number or by name; nobody named is nobody barred."""
    found = origins(unix_socket={"users": users}).of(unix[1], "")
    assert (found.address, found.uid, found.barred, found.on_unix) == (None, os.getuid(), barred, True)
    assert (found.plaintext_allowed, found.header, str(found)) == (True, None, f"unix:{os.getuid()}")


def test_users_and_groups_that_are_not_there() -> None:
    """Are named."""
    with pytest.raises(LookupError, match="no user 'no-such-user'"):
        peer.uids(["0", "no-such-user"])
    with pytest.raises(LookupError, match="no group 'no-such-group'"):
        peer.gid(UnixSocket(group="no-such-group"))
    assert (peer.gid(UnixSocket()), peer.gid(UnixSocket(group="7"))) == (-1, 7)


@pytest.mark.parametrize(
    ("address", "options", "expected"),
    [
        ("127.0.0.1", {}, None),
        ("10.1.2.3", {"trusted": ["10.0.0.0/8"]}, True),
        ("10.1.2.3", {"trusted": ["10.0.0.0/8"], "required": False}, False),
        ("11.1.2.3", {"trusted": ["10.0.0.0/8"]}, None),
        ("::ffff:10.1.2.3", {"trusted": ["10.0.0.0/8"]}, True),
        ("2001:db8::1", {"trusted": ["10.0.0.0/8", "2001:db8::/32"]}, True),
        ("::1", {"trusted": ["0.0.0.0/0"]}, None),
    ],
)
def test_whose_header_counts(address: str, options: Mapping[str, Any], expected: bool | None) -> None:  # noqa: FBT001 a table's column
    """That of the networks which are named, whichever way their addresses are written."""
    with socket.socket() as accepted:
        assert origins(proxy_protocol=options).of(accepted, address).header is expected


async def test_a_header_that_does_not_come(
    unix: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a time of its own, much shorter than the login's."""
    monkeypatch.setattr(peer, "HEADER_S", 0.02)
    known = Peer(address=parse_address("10.1.2.3"), plaintext_allowed=False, header=True)
    unix[0].sendall(header("192.0.2.7")[:20])
    with pytest.raises(HeaderError, match=r"no PROXY header within 0\.02 s"):
        await read_header(unix[1], known)
    unix[0].close()
    with pytest.raises(ClientGone):
        await read_header(unix[1], known)


async def test_a_header_and_no_more(unix: tuple[socket.socket, socket.socket]) -> None:
    """What follows stays in the socket."""
    known = Peer(address=parse_address("10.1.2.3"), plaintext_allowed=False, header=True)
    unix[0].sendall(header("192.0.2.7", more=b"\x04\0\1x") + b"next")
    found = await read_header(unix[1], known)
    assert (str(found), str(found.via), found.header, found.plaintext_allowed) == (
        "192.0.2.7",
        "10.1.2.3",
        None,
        False,
    )
    assert unix[1].recv(100) == b"next"
