"""sd_notify: to the socket that systemd names, and to nobody where there is none."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.systemd import notify


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """A socket as systemd has it, to be bound."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        yield listening


def test_a_path(manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state arrives as it is."""
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notify("READY=1\nSTATUS=ä")
    assert manager.recv(100) == "READY=1\nSTATUS=ä".encode()


def test_an_abstract_name(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """An @ stands for the NUL that such a name begins with; a second one is a part of it."""
    name = f"curfew-test-{os.getpid()}@x"
    manager.bind(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    notify("STOPPING=1")
    assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all", "vsock:2:1"])
def test_nobody_listens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without systemd, or with one that has gone, nothing happens."""
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
