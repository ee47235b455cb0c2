"""What `check` finds: each fault by its key's path, with what to do, and nothing where all is well."""

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy import check, config, membership
from tests.harness import pooler
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.proxy import Proxy
from tests.harness.roles import APP

ROOT = Path(__file__).resolve().parents[3]


class Setup:
    """A proxy's configuration that is right, until a test changes it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.folder = proxy.folder

    def load(self) -> config.Configuration:
        """Write it and read it."""
        return config.load(self.proxy.write_config(), {})

    def change(self, options: Mapping[str, Any] | None = None, target: Mapping[str, Any] | None = None) -> None:
        """Lay options over [proxy] and over [targets.orders]."""
        self.proxy.options = {**self.proxy.options, **(options or {})}
        self.proxy.target = {**self.proxy.target, **(target or {})}

    def on_disk(self) -> list[str]:
        """The faults that a start would find."""
        return check.on_disk(self.load(), {})

    async def everything(self) -> list[str]:
        """The faults that `check` would find."""
        return await check.everything(self.load(), {})

    def file(self, name: str, content: bytes = b"") -> str:
        """A file beside the configuration."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)


def pair(setup: Setup, stem: str, *names: str) -> dict[str, str]:
    """One of tls_certificates."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    files = setup.proxy.ca.server(*names, stem=stem, folder=setup.folder)
    return {"certificate_file": str(files.certificate), "key_file": str(files.key)}


@pytest.fixture
def setup(postgres: Cluster, ca: Authority, tmp_path: Path) -> Setup:
    """A right configuration in front of the shared server."""
    return Setup(Proxy(cluster=postgres, ca=ca, folder=tmp_path / "proxy"))


async def test_a_right_configuration_has_no_fault(setup: Setup) -> None:
    """With two profiles and the keeper logged in to a real server; and nothing was made or changed."""
    assert await setup.everything() == []
    assert not setup.proxy.state.exists()


# --- this machine


def test_files_that_are_missing(setup: Setup) -> None:
    """Each is named, all in one go."""
    configuration = setup.load()
    for name in ("proxy.pem", "jwks.json", "curfew_keeper.password", "curfew_app.password"):
        (setup.folder / name).unlink()
    faults = check.on_disk(configuration, {})
    for start in (
        "proxy.tls_certificate_file: ",
        "proxy.jwks_file: ",
        "targets.orders.keeper.password: the file ",
        "targets.orders.access.app.password: the file ",
    ):
        assert len([fault for fault in faults if fault.startswith(start) and "No such file" in fault]) == 1, faults
    assert len(faults) == 4


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s.change({"tls_key_file": s.file("other.key", b"nonsense")}), "proxy.tls_key_file: "),
        (lambda s: s.change({"tls_key_file": str(s.proxy.ca.server(stem="another").key)}), "proxy.tls_key_file: "),
        (lambda s: s.change({"tls_certificate_file": "/dev/null"}), "proxy.tls_key_file: "),
        (
            lambda s: s.change({"tls_certificate_file": "/"}),
            "proxy.tls_certificate_file: / cannot be read: Is a directory",
        ),
        (
            lambda s: s.change({"tls_certificates": [pair(s, "one"), {**pair(s, "two"), "key_file": "/dev/null"}]}),
            "proxy.tls_certificates[1].key_file: ",
        ),
        (
            lambda s: s.change({"tls_certificates": [{**pair(s, "one"), "certificate_file": "/nowhere"}]}),
            "proxy.tls_certificates[0].certificate_file: /nowhere cannot be read",
        ),
        (
            lambda s: s.change({"tls_certificates": [pair(s, "address", "192.0.2.1")]}),
            "proxy.tls_certificates[0].certificate_file: ",
        ),
        (lambda s: s.change({"tls_client_ca_file": s.file("ca", b"x")}), "proxy.tls_client_ca_file: "),
        (lambda s: s.change({"listen": ["/nowhere:6432"]}), "proxy.listen[0]: /nowhere is not a folder"),
        (lambda s: s.change({"oauth": {"listen": ["/no:1"]}}), "proxy.oauth.listen[0]: /no is not a folder"),
        (lambda s: s.change({"unix_socket": {"users": ["no-such"]}}), "proxy.unix_socket.users: there is no user"),
        (lambda s: s.change({"unix_socket": {"group": "no-such"}}), "proxy.unix_socket.group: there is no group"),
        (lambda s: s.change({"jwks_file": s.file("keys", b"{}")}), "proxy.jwks_file: "),
        (lambda s: s.change({"jwks_file": s.file("keys", b'{"keys": []}')}), "proxy.jwks_file: "),
        (lambda s: s.change({"state_dir": s.file("state_file")}), "proxy.state_dir: "),
        (lambda s: s.change({"state_dir": s.file("a_file") + "/below"}), "proxy.state_dir: "),
        (lambda s: s.change({"state_dir": str(Path(s.file("s/journal")).parent)}), "proxy.state_dir: "),
        (lambda s: s.change(target={"ca_file": "/nowhere.pem"}), "targets.orders.ca_file: /nowhere.pem cannot be read"),
        (lambda s: s.change(target={"ca_file": s.file("ca", b"x")}), "targets.orders.ca_file: "),
        (
            lambda s: s.change(target={"keeper": {"user": "k", "password": {"env": "NO"}}}),
            "targets.orders.keeper.password:",
        ),
        (
            lambda s: s.change(target={"keeper": {"user": "k", "password": {"command": ["false"]}}}),
            "targets.orders.keeper.",
        ),
    ],
    ids=range(21),
)
async def test_a_fault_on_this_machine(setup: Setup, change: Callable[[Setup], None], fault: str) -> None:
    """Found at every start, and by `check` before it asks any server."""
    change(setup)
    faults = setup.on_disk()
    assert len(faults) == 1
    assert faults[0].startswith(fault), faults
    assert await setup.everything() == faults


def certified(setup: Setup, **files: str) -> dict[str, Any]:
    """A login of the keeper's with these files for its certificate."""
    made = setup.proxy.ca.client("curfew_keeper", folder=Path(setup.file("made/x")).parent)
    password = {"file": str(setup.folder / "curfew_keeper.password")}
    pair = {"certificate_file": str(made.certificate), "key_file": str(made.key), **files}
    return {"keeper": {"user": "curfew_keeper", "password": password, **pair}}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda _: {"crl_file": "/nowhere.pem"}, "targets.orders.crl_file: /nowhere.pem cannot be read"),
        (lambda s: {"crl_file": s.file("crl", b"x")}, "targets.orders.crl_file: "),
        (lambda s: certified(s, key_file="/no.key"), "targets.orders.keeper.key_file: /no.key cannot be read"),
        (lambda s: certified(s, key_file="/"), "targets.orders.keeper.key_file: / is not a file"),
        (lambda s: certified(s, key_file=s.file("k", b"x")), "targets.orders.keeper.key_file: "),
        (lambda s: certified(s, certificate_file="/no.pem"), "targets.orders.keeper.certificate_file: /no.pem cannot"),
        (
            lambda s: certified(s, certificate_file=str(s.proxy.ca.client("b", stem="b").certificate)),
            "targets.orders.keeper.key_file: ",
        ),
    ],
    ids=range(7),
)
async def test_a_fault_in_the_files_for_tls(
    setup: Setup, change: Callable[[Setup], Mapping[str, Any]], fault: str
) -> None:
    """Missing, unreadable, no such thing, or no pair."""
    setup.change(target=change(setup))
    assert [found.startswith(fault) for found in setup.on_disk()] == [True], setup.on_disk()
    assert await setup.everything() == setup.on_disk()


def test_a_key_that_others_may_read(setup: Setup) -> None:
    """As libpq has it: nobody but its owner, and a group where the owner is root."""
    target = certified(setup)
    setup.change(target=target)
    key = Path(target["keeper"]["key_file"])
    assert setup.on_disk() == []
    key.chmod(0o644)
    advice = "chmod 600 it (640 will do where root owns it)"
    assert setup.on_disk() == [f"targets.orders.keeper.key_file: {key} is open to others (mode 644); {advice}"]
    key.chmod(0o640)
    assert len(setup.on_disk()) == (0 if os.getuid() == 0 else 1)


def test_no_files_are_needed_without_tls(setup: Setup) -> None:
    """What is not used is not looked at."""
    setup.change(target={"sslmode": "disable", "crl_file": "/nowhere", **certified(setup, key_file="/nowhere")})
    assert setup.on_disk() == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_elses(setup: Setup, tmp_path: Path) -> None:
    """The state folder exists and is not ours to write to."""
    (tmp_path / "closed").mkdir(mode=0o500)
    setup.change({"state_dir": str(tmp_path / "closed")})
    assert setup.on_disk()[0].startswith("proxy.state_dir: ")


def test_an_encrypted_key_asks_no_terminal(setup: Setup) -> None:
    """OpenSSL would prompt for the passphrase and hang the start."""
    configuration = setup.load()
    key = setup.folder / "proxy.key"
    locked = setup.folder / "locked.key"
    run(["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:x"])
    key.write_bytes(locked.read_bytes())
    faults = check.on_disk(configuration, {})
    assert len(faults) == 1
    assert "encrypted; store it without a passphrase" in faults[0]


async def test_an_expired_certificate(setup: Setup) -> None:
    """Is told by `check`; a start goes on, because refusing to would mend nothing."""
    configuration = setup.load()
    setup.proxy.ca.server(folder=setup.folder, stem="proxy", until=datetime(2026, 1, 1, tzinfo=UTC))
    assert check.on_disk(configuration, {}) == []
    faults = await check.everything(configuration, {})
    assert len(faults) == 1
    assert "proxy.tls_certificate_file: " in faults[0]
    assert "has expired at 2026-01-01 00:00 UTC" in faults[0]


async def test_an_expired_client_certificate(setup: Setup) -> None:
    """The same, for the proxy's own at PostgreSQL."""
    target = certified(setup)
    ended = setup.proxy.ca.server(folder=setup.folder, stem="ended", until=datetime(2026, 1, 1, tzinfo=UTC))
    pair = {"certificate_file": str(ended.certificate), "key_file": str(ended.key)}
    setup.change(target={"keeper": {**target["keeper"], **pair}})
    assert setup.on_disk() == []
    found = await setup.everything()
    assert "targets.orders.keeper.certificate_file: " in found[0]
    assert "has expired at 2026-01-01 00:00 UTC" in found[0]


def test_the_join_token_is_needed_once(setup: Setup) -> None:
    """Before the proxy has joined it must be there; afterwards nobody misses it."""
    text = setup.proxy.write_config().read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("jwks_file", "issuer", "audience"))]
    at = next(i for i, line in enumerate(lines) if line.startswith("[targets"))
    control = ["[proxy.control]", 'url = "https://control.test"', 'join_token = { file = "/nowhere" }', ""]
    setup.proxy.config.write_text("\n".join([*lines[:at], *control, *lines[at:]]))
    configuration = config.load(setup.proxy.config, {})
    assert check.on_disk(configuration, {})[0].startswith("proxy.control.join_token: the file /nowhere cannot be read")
    setup.proxy.config.write_text(setup.proxy.config.read_text().replace(control[2], ""))
    without = config.load(setup.proxy.config, {})
    assert check.on_disk(without, {})[0].startswith("proxy.control.join_token: missing")
    setup.proxy.state.mkdir()
    (setup.proxy.state / membership.FILE).touch()
    assert check.on_disk(configuration, {}) == []
    assert check.on_disk(without, {}) == []


# --- PostgreSQL


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("target", "faults"),
    [
        ({"host": "nowhere.invalid"}, ["targets.orders.host: "]),
        ({"port": 1}, ["targets.orders.host: ", "Connect call failed"]),
        ({"host": "/nowhere"}, ["targets.orders.host: ", "/nowhere"]),
        ({"host": "127.0.0.2", "sslmode": "verify-full"}, ["targets.orders.host: "]),
        ({"ca_file": None}, ["targets.orders.host: ", "certificate verify failed"]),
        ({"database": "nowhere"}, ["targets.orders.access.app: ", "targets.orders.access.readonly: ", "nowhere"]),
        ({"keeper": {"user": "nobody_here"}}, ["targets.orders.keeper: ", "nobody_here"]),
    ],
    ids=["name", "port", "socket", "address", "authority", "database", "keeper"],
)
async def test_a_server_that_cannot_be_used(setup: Setup, target: Mapping[str, Any], faults: list[str]) -> None:
    """Unresolvable, unreachable, not the one that it should be, or not letting the proxy in."""
    setup.change(target={key: value for key, value in target.items() if value is not None})
    configuration = setup.load()
    if target.get("ca_file", "") is None:
        lines = setup.proxy.config.read_text().splitlines()
        setup.proxy.config.write_text("\n".join(line for line in lines if "ca_file" not in line))
        configuration = config.load(setup.proxy.config, {})
    found = await check.everything(configuration, {})
    assert all(any(wanted in fault for fault in found) for wanted in faults), found
    assert len(found) == len([fault for fault in faults if fault.startswith("targets.")])


async def test_a_server_that_says_nothing(setup: Setup, silent_port: int) -> None:
    """`check` waits no longer than the target's connect timeout."""
    setup.change(target={"host": "127.0.0.1", "port": silent_port, "connect_timeout_s": 0.3})
    found = await setup.everything()
    assert len(found) == 1
    assert found[0].startswith("targets.orders.host: ")
    assert "0.3 s" in found[0]


async def test_each_host_is_asked(setup: Setup, postgres: Cluster) -> None:
    """One that cannot be reached is named, and the keeper's login is tried on each of the others."""
    ports = [1, postgres.port, postgres.port]
    setup.change(target={"host": ["127.0.0.1", "127.0.0.1", str(postgres.folder)], "port": ports})
    found = await setup.everything()
    assert len(found) == 1
    assert found[0].startswith("targets.orders.host: 127.0.0.1:1: ")
    setup.change(target={"keeper": {"user": "nobody_here"}})
    found = await setup.everything()
    assert [fault.partition(": ")[0] for fault in found] == ["targets.orders.host", *["targets.orders.keeper"] * 2]


async def test_no_host_has_the_role(setup: Setup) -> None:
    """Found by the sessions' own logins."""
    setup.change(target={"target_session_attrs": "standby"})
    found = await setup.everything()
    assert [fault.partition(": ")[0] for fault in found] == [
        "targets.orders.access.app",
        "targets.orders.access.readonly",
    ]
    assert all("it is not standby" in fault for fault in found)


async def test_a_wrong_password(setup: Setup) -> None:
    """Is the profile's fault, or the keeper's; the password is not in the text."""
    setup.change(target={"keeper": {"user": "curfew_keeper", "password": {"file": setup.file("wrong", b"geheim")}}})
    found = await setup.everything()
    assert len(found) == 1
    assert found[0].startswith("targets.orders.keeper: ")
    assert "deploy/keeper.sql" in found[0]
    assert "geheim" not in found[0]


async def test_a_superuser_needs_a_superuser(setup: Setup, postgres: Cluster) -> None:
    """A superuser profile's sessions could not be ended: pg_signal_backend does not reach them, but its like does."""
    boss = {"user": postgres.superuser, "password": {"file": setup.file("boss", postgres.password.encode())}}
    setup.change(target={"access": {"boss": boss}})
    found = await setup.everything()
    assert len(found) == 1
    assert found[0].startswith("targets.orders.access.boss.user: sessions would be refused")
    assert "only a superuser can" in found[0]
    setup.change(target={"access": {"boss": boss}, "keeper": boss})
    assert await setup.everything() == []


async def test_a_keeper_without_rights(setup: Setup, postgres: Cluster) -> None:
    """What it lacks is said with the remedy, for it and for each profile that suffers."""
    login = {"user": APP.user, "password": {"file": setup.file("app", APP.password.encode())}}
    setup.change(target={"keeper": login})
    found = await setup.everything()
    assert [fault.partition(": ")[0] for fault in found] == [
        "targets.orders.keeper.user",
        "targets.orders.access.readonly.user",
    ]
    assert "GRANT pg_read_all_stats TO it" in found[0]
    assert "GRANT pg_signal_backend TO it" in found[1]
    setup.change(target={"keeper": {**login, "host": postgres.host, "port": 1}})
    assert [fault.partition(": ")[0] for fault in await setup.everything()] == ["targets.orders.keeper"]


@pytest.mark.skipif(pooler.find() is None, reason="no pgbouncer here")
@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_pool(setup: Setup, postgres: Cluster, ca: Authority, mode: str) -> None:
    """Behind a pooler each profile's pool is tried with two logins at once."""
    program = pooler.find()
    assert program is not None
    with pooler.running(program, postgres, ca, pool_mode=mode) as between:
        setup.change(target=between.target())
        found = await setup.everything()
    profiles = ["targets.orders.access.app", "targets.orders.access.readonly"]
    assert [fault.partition(": ")[0] for fault in found] == ([] if mode == "session" else profiles)


async def test_each_target_is_asked(setup: Setup) -> None:
    """One that cannot be reached does not hide another."""
    text = setup.proxy.write_config().read_text()
    second = text[text.index("[targets.orders]") :].replace("targets.orders", "targets.stock")
    setup.proxy.config.write_text(
        text.replace('host = "localhost"', 'host = "nowhere.invalid"') + second.replace("port =", "port = 1 #")
    )
    found = await check.everything(config.load(setup.proxy.config, {}), {})
    assert [fault.partition(":")[0] for fault in found] == ["targets.orders.host", "targets.stock.host"]


# --- the command


def command(setup: Setup, name: str) -> subprocess.CompletedProcess[str]:
    """Run `curfew-proxy` to its end."""
    config_file = str(setup.proxy.config)
    arguments = [sys.executable, "-m", "proxy.cli", "--config", config_file, name]
    return run(arguments, environment={"PYTHONPATH": str(ROOT)}, check=False)


def test_the_command(setup: Setup) -> None:
    """What is in force on standard output, what is wrong on standard error, and the exit status says which."""
    setup.load()
    (setup.folder / f"{APP.user}.password").chmod(0o644)
    good = command(setup, "check")
    assert good.returncode == 0
    assert tomllib.loads(good.stdout)["targets"]["orders"]["access"]["app"]["user"] == APP.user
    assert "chmod 600" in good.stderr
    assert APP.password not in good.stdout + good.stderr
    (setup.folder / f"{APP.user}.password").unlink()
    bad = command(setup, "check")
    assert bad.returncode == 1
    assert "curfew-proxy: targets.orders.access.app.password: the file " in bad.stderr


@pytest.mark.parametrize("name", ["check", "serve"])
def test_a_fault_refuses_the_start(setup: Setup, name: str) -> None:
    """At once, with its path."""
    setup.change({"state_dir": setup.file("a_file") + "/below"})
    setup.load()
    refused = command(setup, name)
    assert refused.returncode == 1
    assert "curfew-proxy: proxy.state_dir: " in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can make anything")
def test_a_state_folder_that_cannot_be_made_after_all(setup: Setup) -> None:
    """Root is told that it may write everywhere: the start itself finds out, and says so without a traceback."""
    setup.change({"state_dir": "/proc/curfew"})
    setup.load()
    refused = command(setup, "serve")
    assert refused.returncode == 1
    assert "/proc/curfew" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("name", ["check", "serve"])
def test_an_unknown_key_is_refused_by_path(setup: Setup, name: str) -> None:
    """With a suggestion."""
    setup.load()
    setup.proxy.config.write_text(setup.proxy.config.read_text().replace("log_level", "loglevel"))
    refused = command(setup, name)
    assert refused.returncode == 1
    assert refused.stderr == "curfew-proxy: proxy.loglevel: unknown key; did you mean 'log_level'?\n"
