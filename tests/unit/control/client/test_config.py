"""The stored login: private, whole or not at all, and never sent where it does not belong."""

import stat
from pathlib import Path

import pytest

from control.client import config
from control.client.config import Login
from control.client.errors import ClientError

KEY = "cfk_one_secret"
LOGIN = Login(url="https://curfew.example", api_key=KEY, sslrootcert="/ca.pem")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a configuration home of its own."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def test_a_login_is_kept_for_its_owner_alone(home: dict[str, str]) -> None:
    """Mode 0600, and what is read is what was written."""
    path = config.store(LOGIN, home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert config.current(home) == LOGIN
    assert [entry.name for entry in path.parent.iterdir()] == ["config.json"]


def test_the_place_follows_xdg(tmp_path: Path) -> None:
    """XDG_CONFIG_HOME where it is absolute, else ~/.config."""
    assert config.config_path({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/curfew/config.json")
    assert config.config_path({"XDG_CONFIG_HOME": "x", "HOME": "/h"}) == Path("/h/.config/curfew/config.json")
    assert config.config_path({"HOME": str(tmp_path)}) == tmp_path / ".config/curfew/config.json"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_login_that_others_can_read_is_not_used(home: dict[str, str], mode: int) -> None:
    """The key in it may be known to others; the message says what to do."""
    path = config.store(LOGIN, home)
    path.chmod(mode)
    with pytest.raises(ClientError, match="others can read it") as caught:
        config.current(home)
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("content", [b"", b"{", b'{"url": 1}', b"\xff"])
def test_a_damaged_login_is_said_to_be(home: dict[str, str], content: bytes) -> None:
    """In words, with what to do."""
    config.store(LOGIN, home).write_bytes(content)
    with pytest.raises(ClientError, match="damaged"):
        config.current(home)


def test_the_environment_comes_first(home: dict[str, str]) -> None:
    """All of CURFEW_URL, CURFEW_API_KEY and CURFEW_CA_FILE, stored login or not."""
    given = {"CURFEW_URL": "https://other.example/", "CURFEW_API_KEY": "cfk_two_x", "CURFEW_CA_FILE": "/other.pem"}
    assert config.current(home | given) == Login(url="https://other.example", api_key="cfk_two_x", ca_file="/other.pem")
    config.store(LOGIN, home)
    assert config.current(home | given).api_key == "cfk_two_x"
    assert config.current(home | {"CURFEW_API_KEY": "cfk_two_x"}).url == LOGIN.url


def test_a_stored_key_goes_only_to_its_own_service(home: dict[str, str]) -> None:
    """A variable alone must not send the key elsewhere."""
    config.store(LOGIN, home)
    with pytest.raises(ClientError, match=r"for https://curfew\.example, not for https://evil\.example"):
        config.current(home | {"CURFEW_URL": "https://evil.example"})
    assert config.current(home | {"CURFEW_URL": "https://curfew.example/"}).api_key == KEY


@pytest.mark.parametrize("given", [{}, {"CURFEW_API_KEY": KEY}, {"CURFEW_URL": "https://curfew.example"}])
def test_without_a_login_the_command_says_how_to_log_in(home: dict[str, str], given: dict[str, str]) -> None:
    """Half a login is none."""
    with pytest.raises(ClientError, match="not logged in") as caught:
        config.current(home | given)
    assert "curfew login" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "curfew.example",
        "ftp://x",
        "https://",
        "https://u:p@x",
        "https://x:99999",
        "https://x?y=1",
        "http://curfew.example",
    ],
)
def test_addresses_that_will_not_do(url: str) -> None:
    """Not an address, or one to which the key would travel in clear."""
    with pytest.raises(ClientError):
        config.check_url(url)


@pytest.mark.parametrize(
    "url", ["https://x", "https://x:8443/base/", "http://127.0.0.1:1", "http://localhost", "http://[::1]:2"]
)
def test_addresses_that_will_do(url: str) -> None:
    """Plain text is for this machine alone."""
    assert config.check_url(url) == url.rstrip("/")


@pytest.mark.parametrize("key", ["", "token", "cfk_a b", "cfk_ä", "cfk_a\nb"])
def test_what_is_no_key_is_never_sent(key: str) -> None:
    """A pasted something else is recognised before it leaves the machine."""
    with pytest.raises(ClientError, match="no Curfew API key"):
        config.check_key(key)


def test_logging_out_removes_the_key(home: dict[str, str]) -> None:
    """Once; the second time there is nothing."""
    path = config.store(LOGIN, home)
    assert config.forget(home)
    assert not path.exists()
    assert not config.forget(home)


def test_a_key_is_not_in_a_repr() -> None:
    """A repr ends up in messages."""
    assert KEY not in repr(LOGIN)
