"""The proxy's settings: defaults, rules that span several options, secrets, and what is shown of it all."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from proxy import config
from proxy.config import Configuration, SecretError, describe, find, load, parse_listen, read_secret
from proxy.contract.settings import Secret, SettingsError

PROXY = """
[proxy]
name = "proxy-1"
tls_certificate_file = "server.pem"
tls_key_file = "server.key"
"""
CONTROL = """
[proxy.control]
url = "https://control.test:8443"
join_token = { command = ["pass", "show", "hunter2"] }
"""
TARGETS = """
[targets.orders]
host = "db.test"
database = "orders"
[targets.orders.keeper]
user = "curfew_keeper"
password = { file = "keeper" }
[targets.orders.access."read.only"]
user = "curfew_readonly"
password = { env = "READONLY" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with a control service and one target."""
    path = tmp_path / "config.toml"
    path.write_text(PROXY + CONTROL + TARGETS)
    return path


def faults(file: Path, environment: Mapping[str, str] | None = None) -> str:
    """What is wrong with the configuration in `file`."""
    with pytest.raises(SettingsError) as caught:
        load(file, environment or {})
    return str(caught.value)


# --- reading


def test_defaults(file: Path) -> None:
    """What nobody set is as the example says; TLS is needed and only loopback is listened on."""
    proxy = load(file, {}).proxy
    assert proxy.listen == ["127.0.0.1:6432"]
    assert proxy.plaintext == "never"
    assert proxy.warn_before_s == [300, 60]
    assert proxy.journal.limit_bytes == 10 * 1024**3


def test_the_environment_reaches_every_depth(file: Path) -> None:
    """`CURFEW_PROXY__JOURNAL__LIMIT_BYTES` and its kind."""
    environment = {
        "CURFEW_PROXY__JOURNAL__LIMIT_BYTES": "536870912",
        "CURFEW_PROXY__LISTEN": '["[::1]:1", "h:2"]',
        "CURFEW_TARGETS__ORDERS__HOST": "other",
    }
    configuration = load(file, environment)
    assert configuration.proxy.journal.limit_bytes == 536870912
    assert configuration.proxy.listen == ["[::1]:1", "h:2"]
    assert configuration.targets["orders"].host == "other"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Nor one that is a folder, nor one that is no text."""
    assert "nowhere.toml: cannot be read: No such file" in faults(tmp_path / "nowhere.toml")
    assert "Is a directory" in faults(tmp_path)
    (tmp_path / "latin").write_bytes(b"# \xff")
    assert "it is not UTF-8" in faults(tmp_path / "latin")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ((CONTROL, ""), "proxy: say where grants come from: either the section [proxy.control] or `jwks_file`"),
        (("[proxy]\n", '[proxy]\njwks_file = "x"\n'), "proxy: say where grants come from"),
        ((CONTROL, 'jwks_file = "x"\nissuer = "i"\n'), "proxy: with `jwks_file`, `issuer` and `audience`"),
        (("[proxy]\n", "[proxy]\nlisten = []\n"), "proxy.listen: expected `array` of length >= 1"),
        (("[proxy]\n", '[proxy]\nlisten = ["6432"]\n'), "proxy: '6432' is not HOST:PORT"),
        (("[proxy]\n", '[proxy]\nops_listen = "x:y"\n'), "proxy: 'x:y' is not HOST:PORT"),
        (("[proxy]\n", '[proxy]\nlisten = ["/run/curfew:0"]\n'), "proxy: '/run/curfew:0': a unix socket needs a port"),
        (("[proxy]\n", f'[proxy]\nlisten = ["/{"x" * 93}:6432"]\n'), "a path of at most 107 bytes"),
        (("[proxy]\n", '[proxy]\nops_listen = "/run:1"\n'), "proxy: `ops_listen` must be HOST:PORT"),
        (
            ("[proxy]\n", '[proxy.unix_socket]\nmode = "0999"\n[proxy]\n'),
            "proxy.unix_socket.mode: expected `str` matching",
        ),
        (
            ("[proxy]\n", '[proxy.proxy_protocol]\ntrusted = ["10.0.0.1/8"]\n[proxy]\n'),
            "proxy.proxy_protocol: `trusted`: 10.0.0.1/8 has host bits set; write a network as in 10.0.0.0/8",
        ),
        (("[proxy]\n", '[proxy.oauth]\nlisten = ["6433"]\n[proxy]\n'), "proxy.oauth: '6433' is not HOST:PORT"),
        (
            ("[proxy]\n", '[proxy.oauth]\nlisten = ["127.0.0.1:6432"]\n[proxy]\n'),
            "proxy: '127.0.0.1:6432' stands in `listen` and in `oauth.listen`",
        ),
        (
            ("[proxy]\n", '[proxy.oauth]\nissuer = "http://control.test"\n[proxy]\n'),
            "proxy.oauth.issuer: expected `str` matching",
        ),
        (("[proxy]\n", "[proxy.oauth]\nscope = 'a\"b'\n[proxy]\n"), "proxy.oauth.scope: expected `str` matching"),
        (
            ("[proxy]\n", '[proxy]\ntls_client_certificate = "required"\n'),
            'proxy: `tls_client_certificate` = "required" needs `tls_client_ca_file`',
        ),
        (
            ("[proxy]\n", "[proxy]\ntls_certificates = [{ certificate_file = 'x' }]\n"),
            "proxy.tls_certificates[0].key_file: missing",
        ),
        (("[proxy]\n", "[proxy]\nauth_timeout_s = 0\n"), "proxy.auth_timeout_s: expected `float` > 0.0"),
        (("[proxy]\n", "[proxy]\nmax_message_bytes = 1\n"), "proxy.max_message_bytes: expected `int` >= 65536"),
        (("[proxy]\n", "[proxy]\nworkers = 0\n"), "proxy.workers: expected `int` >= 1"),
        (("[proxy]\n", "[proxy]\nworkers = 17\n"), "proxy.workers: expected `int` <= 16"),
        (("[proxy]\n", "[proxy]\nworkers = 4\nmax_unauthenticated = 3\n"), "proxy: each worker gets its share"),
        (("[proxy]\n", '[proxy]\nplaintext = "yes"\n'), "proxy.plaintext: invalid enum value 'yes'"),
        (("[proxy]\n", "[proxy]\nwarn_before_s = [-1]\n"), "proxy.warn_before_s[0]: expected `float` > 0.0"),
        (("[proxy]\n", "[proxy.journal]\nlimit_bytes = 104857600\n[proxy]\n"), "proxy.journal: `limit_bytes` must be"),
        (
            ("https://control.test:8443", "http://control.test"),
            "proxy.control: `url` must be https, except on loopback",
        ),
        (("https://control.test:8443", "control.test:8443"), "proxy.control: `url` must be https://HOST[:PORT]"),
        (("https://control.test:8443", "https://me:pw@c.test"), "proxy.control: `url` must be a bare"),
        (('name = "proxy-1"', ""), "proxy.name: missing"),
        (("tls_key_file", "tls_keyfile"), "proxy.tls_keyfile: unknown key; did you mean 'tls_key_file'?"),
        (("join_token", "jointoken"), "proxy.control.jointoken: unknown key; did you mean 'join_token'?"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_wrong_option_is_named(file: Path, change: tuple[str, str], fault: str) -> None:
    """With its section, and what would be right."""
    text = file.read_text().replace(*change)
    assert text != file.read_text()
    file.write_text(text)
    assert fault in faults(file)


def test_without_control(file: Path) -> None:
    """Standing alone, with a file of keys."""
    alone = 'jwks_file = "keys.json"\nissuer = "https://c.test"\naudience = "curfew"\n'
    file.write_text(file.read_text().replace(CONTROL, alone))
    assert load(file, {}).proxy.control is None


def test_plain_http_is_for_loopback_alone(file: Path) -> None:
    """As in the demo."""
    file.write_text(file.read_text().replace("https://control.test:8443", "http://127.0.0.1:1"))
    control = load(file, {}).proxy.control
    assert control is not None
    assert control.url == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6432", ("127.0.0.1", 6432)),
        ("[::1]:0", ("::1", 0)),
        ("proxy.test:65535", ("proxy.test", 65535)),
    ],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    """Port 0 means any free one."""
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["", ":1", "h", "h:", "h:65536", "h:-1", "h:+1", "h:1x", "h:\u0661", "::1:5", "[]:1"])
def test_what_is_no_listen_address(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets"):
        parse_listen(text)


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, then the variable, then the usual places; and if there is none, how to name one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "PATHS", ("./config.toml",))
    assert find("a.toml", {"CURFEW_CONFIG": "b.toml"}) == Path("a.toml")
    assert find(None, {"CURFEW_CONFIG": "b.toml"}) == Path("b.toml")
    with pytest.raises(SettingsError, match="--config FILE"):
        find(None, {})
    (tmp_path / "config.toml").touch()
    assert find(None, {}) == Path("config.toml")


# --- showing


def test_what_is_shown_reads_back_as_it_was(file: Path) -> None:
    """Every option with its value, as TOML; only a command's arguments are hidden."""
    more = """[proxy]
tls_certificates = [{ certificate_file = 'a "b"', key_file = "c" }, { certificate_file = "d", key_file = "e" }]
"""
    file.write_text(file.read_text().replace("[proxy]\n", more))
    configuration = load(file, {})
    shown = describe(configuration)
    assert "hunter2" not in shown
    assert 'command = ["pass","***","***"]' in shown
    file.write_text(shown)
    again = load(file, {})
    assert again.targets == configuration.targets
    assert again.proxy.tls_certificates == configuration.proxy.tls_certificates
    assert describe(again) == shown


def test_odd_names_and_texts_are_shown_as_toml(file: Path) -> None:
    """Dots in names, quotes and control characters in texts."""
    odd = 'say "hi"\\\\ \\n \\u007f ä'
    file.write_text(
        file.read_text().replace(
            "[targets.orders]\n", f'[targets.orders]\ndescription = "{odd}"\n'.replace('"hi"', '\\"hi\\"')
        )
    )
    configuration = load(file, {})
    assert configuration.targets["orders"].description == 'say "hi"\\ \n \x7f ä'
    file.write_text(describe(configuration))
    assert load(file, {}).targets == configuration.targets


def test_a_configuration_without_targets_can_be_shown(file: Path) -> None:
    """An empty table keeps its heading."""
    file.write_text(PROXY + CONTROL + "[targets]\n")
    file.write_text(describe(load(file, {})))
    assert load(file, {}) == Configuration(proxy=load(file, {}).proxy, targets={})


# --- secrets


def test_no_secret_is_none() -> None:
    """Where PostgreSQL asks for none."""
    assert read_secret(None) is None


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"geheim", "geheim"),
        (b"geheim\n", "geheim"),
        (b"geheim\r\n", "geheim"),
        (b"geheim\n\n", "geheim\n"),
        (b" ge heim \n", " ge heim "),
        ("größer\n".encode(), "größer"),
    ],
)
def test_a_secret_from_a_file(secret_file: Path, content: bytes, secret: str) -> None:
    """Editors end a file with a newline that nobody means; everything else is the secret's own."""
    secret_file.write_bytes(content)
    assert read_secret(Secret(file=str(secret_file))) == secret


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\0b", "zero byte"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 65_537, "more than 65536 bytes"),
    ],
)
def test_what_is_no_secret(secret_file: Path, content: bytes, fault: str) -> None:
    """PostgreSQL would only say that the password is wrong."""
    secret_file.write_bytes(content)
    with pytest.raises(SecretError, match=fault) as caught:
        read_secret(Secret(file=str(secret_file)))
    assert str(secret_file) in str(caught.value)


def test_a_secret_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, or a fifo, which would hang for ever."""
    with pytest.raises(SecretError, match="No such file"):
        read_secret(Secret(file=str(tmp_path / "nowhere")))
    with pytest.raises(SecretError, match=r"directory|not a file"):
        read_secret(Secret(file=str(tmp_path)))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SecretError, match="not a file"):
        read_secret(Secret(file=str(tmp_path / "fifo")))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True)])
def test_an_open_secret_file_is_warned_of(secret_file: Path, mode: int, warned: bool) -> None:  # noqa: FBT001 the test's own table
    """A group may read it (that is how services are given secrets), others may not; the secret is not in the log."""
    secret_file.write_text("geheim")
    secret_file.chmod(mode)
    with capture_logs() as logged:
        assert read_secret(Secret(file=str(secret_file))) == "geheim"
    assert bool(logged) is warned
    assert "geheim" not in str(logged)


def test_a_secret_from_the_environment() -> None:
    """As it is, or an error that names the variable."""
    assert read_secret(Secret(env="X"), {"X": "geheim\n"}) == "geheim"
    with pytest.raises(SecretError, match="variable X is not set"):
        read_secret(Secret(env="X"), {})
    with pytest.raises(SecretError, match="variable X is empty"):
        read_secret(Secret(env="X"), {"X": ""})
    with pytest.raises(SecretError, match="UTF-8"):
        read_secret(Secret(env="X"), {"X": "\udcff"})


def test_a_secret_from_a_command() -> None:
    """The first line that it prints."""
    assert read_secret(Secret(command=["printf", "geheim\nmore\n"])) == "geheim"


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (["/nonexistent/command"], "cannot be run: No such file"),
        (["sh", "-c", "echo geheim; exit 3"], "sh failed with status 3"),
        (["sh", "-c", "kill -9 $$"], "sh failed with status -9"),
        (["true"], "true is empty|the command true"),
        (["sh", "-c", "exec yes"], "more than 65536 bytes"),
    ],
)
def test_a_command_that_fails(command: list[str], fault: str) -> None:
    """Says which, never what it printed."""
    with pytest.raises(SecretError, match=fault) as caught:
        read_secret(Secret(command=command))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("script", ["exec sleep 60", "exec >&-; exec sleep 60", "echo geheim; exec sleep 60"])
def test_a_command_that_hangs_is_ended(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it prints nothing, closes its output or has printed already."""
    monkeypatch.setattr(config, "SECRET_COMMAND_S", 0.2)
    with pytest.raises(SecretError, match=re.escape("longer than 0.2 s")):
        read_secret(Secret(command=["sh", "-c", script]))
