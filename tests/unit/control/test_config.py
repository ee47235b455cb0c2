"""control's configuration, and what is said where it is wrong."""

import os
from pathlib import Path

import pytest

from control.config import effective, find_path, listen_address, log_origin, read
from proxy.contract.settings import SettingsError

TARGET = """
[targets.orders]
host = "db"
database = "shop"
keeper = { user = "k", password = { command = ["pass", "hush"] } }
access.readonly = { user = "ro", password = { env = "PASSWORD" } }
"""


def write(folder: Path, **changed: object) -> Path:
    """A configuration that is good but for the changes; None leaves an option out."""
    for name in ("certificate", "key"):
        (folder / name).touch()
    options: dict[str, object] = {
        "listen": '"127.0.0.1:0"',
        "tls_certificate_file": f'"{folder}/certificate"',
        "tls_key_file": f'"{folder}/key"',
        "state_dir": f'"{folder}/state"',
        "issuer": '"https://c"',
        "connect_host": '"p"',
    }
    lines = [f"{name} = {value}" for name, value in (options | changed).items() if value is not None]
    path = folder / "config.toml"
    path.write_text("\n".join(["[control]", *lines, TARGET]))
    return path


def faults(path: Path) -> list[str]:
    """What is wrong with it."""
    with pytest.raises(SettingsError) as refused:
        read(path, {})
    return list(refused.value.faults)


def test_a_good_one(tmp_path: Path) -> None:
    """Defaults where nothing is said, and nothing is created."""
    configuration = read(write(tmp_path), {})
    settings = configuration.control
    assert (settings.audience, settings.max_duration_s, settings.plaintext) == ("curfew", 28_800, False)
    assert settings.database == tmp_path / "state" / "control.sqlite3"
    assert not (tmp_path / "state").exists()


def test_the_logs_name_is_the_issuers_host(tmp_path: Path) -> None:
    """Unless it is given another."""
    assert log_origin(read(write(tmp_path, issuer='"https://c.example:8443/x"'), {}).control) == "c.example"
    assert log_origin(read(write(tmp_path, issuer='"us"'), {}).control) == "us"
    named = write(tmp_path, **{"log.origin": '"books"', "log.publish": '["/worm", "https://w.example/hook"]'})
    assert log_origin(read(named, {}).control) == "books"


def test_variables_override(tmp_path: Path) -> None:
    """As everywhere."""
    configuration = read(write(tmp_path), {"CURFEW_CONTROL__MAX_DURATION_S": "7200"})
    assert configuration.control.max_duration_s == 7_200


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"lissten": '"x"'}, "control.lissten: unknown key; did you mean 'listen'?"),
        ({"state_dir": None}, "control.state_dir: missing;"),
        ({"max_duration_s": '"long"'}, "control.max_duration_s: expected `int`"),
        ({"tls_certificate_file": None}, "control.tls_certificate_file: is missing; TLS is required"),
        ({"tls_key_file": '"/nowhere/key"'}, "control.tls_key_file: cannot read /nowhere/key"),
        ({"listen": '"8443"'}, "control.listen: must be "),
        ({"listen": '"host:port"'}, "control.listen: must be "),
        ({"listen": '"host:65536"'}, "control.listen: must be "),
        ({"listen": '":8443"'}, "control.listen: must be "),
        ({"listen": '"0.0.0.0:8443"', "plaintext": "true"}, "control.plaintext: without TLS"),
        ({"listen": '"example.com:8443"', "plaintext": "true"}, "control.plaintext: without TLS"),
        ({"max_duration_s": 0, "default_duration_s": 1}, "control.max_duration_s: must be 1 or more"),
        ({"default_duration_s": 28_801}, "control.default_duration_s: must not be more than max_duration_s"),
        ({"issuer": '""'}, "control.issuer: must not be empty"),
        ({"log_level": '"loud"'}, "control.log_level: invalid enum value 'loud'"),
        ({"connect_port": 0}, "control.connect_port: expected `int` >= 1"),
        ({"issuer": '"no host"'}, "control.log.origin: 'no host' cannot name a log"),
        ({"log.origin": '"a b"'}, "control.log.origin: 'a b' cannot name a log"),
        ({"log.publish_s": "0.5"}, "control.log.publish_s: must be 1 to 86400"),
        ({"log.publish": '["heads"]'}, "control.log.publish[0]: must be a folder's absolute path"),
        ({"log.publish": '["/a", "http://w.example/"]'}, "control.log.publish[1]: must be an https URL"),
        ({"log.publish": '["https://u:p@w.example/"]'}, "control.log.publish[0]: must be an https URL"),
        ({"log.publish": '["https://[/"]'}, "control.log.publish[0]: must be an https URL"),
        ({"log.publish": '["/a", "/a"]'}, "control.log.publish: names one target twice"),
    ],
)
def test_a_fault_has_its_path(tmp_path: Path, changed: dict[str, object], fault: str) -> None:
    """And says what to do."""
    found = faults(write(tmp_path, **changed))
    assert any(one.startswith(fault) for one in found), found


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """One run, and all is mended."""
    found = faults(write(tmp_path, listen='"x"', tls_key_file=None, issuer='""'))
    assert [fault.split(":")[0] for fault in found] == ["control.listen", "control.tls_key_file", "control.issuer"]


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_plain_text_on_loopback(tmp_path: Path, listen: str) -> None:
    """Then no certificate is needed."""
    path = write(tmp_path, listen=f'"{listen}"', plaintext="true", tls_key_file=None, tls_certificate_file=None)
    settings = read(path, {}).control
    assert listen_address(settings) == (listen.rpartition(":")[0].strip("[]"), 1)


def test_a_state_folder_that_is_none(tmp_path: Path) -> None:
    """A file is in its place, or in the place of one above."""
    (tmp_path / "state").touch()
    assert faults(write(tmp_path)) == [f"control.state_dir: {tmp_path}/state is not a folder"]
    (below,) = faults(write(tmp_path, state_dir=f'"{tmp_path}/state/below"'))
    assert below.startswith(f"control.state_dir: {tmp_path}/state/below does not exist, and ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It is there, and not ours."""
    (tmp_path / "state").mkdir(mode=0o500)
    assert faults(write(tmp_path)) == [f"control.state_dir: cannot write to {tmp_path}/state"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or no text."""
    assert faults(tmp_path / "none.toml") == [
        f"{tmp_path}/none.toml: cannot read the configuration: No such file or directory"
    ]
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe")
    assert faults(tmp_path / "odd.toml") == [f"{tmp_path}/odd.toml: cannot read the configuration: not UTF-8"]


def test_what_is_shown_has_no_secret(tmp_path: Path) -> None:
    """Where a secret is, and never what it is; a command's arguments may be one."""
    shown = effective(read(write(tmp_path), {}))
    target = shown["targets"]["orders"]
    assert target["keeper"]["password"]["command"] == ["pass", "***"]
    assert target["access"]["readonly"]["password"]["env"] == "PASSWORD"
    assert "hush" not in str(shown)
    assert shown["control"]["audience"] == "curfew"


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, the variable, here, and the system's."""
    monkeypatch.chdir(tmp_path)
    assert find_path("given", {"CURFEW_CONFIG": "variable"}) == Path("given")
    assert find_path(None, {"CURFEW_CONFIG": "variable"}) == Path("variable")
    assert find_path(None, {}) == Path("/etc/curfew/config.toml")
    (tmp_path / "config.toml").touch()
    assert find_path(None, {}) == Path("config.toml")
