"""The units of deploy/systemd: they say what systemd understands and what the services do."""

import shutil
import signal
import socket
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from proxy.config import ProxySettings
from proxy.server import PARTING_S
from tests.conftest import MakeProxy
from tests.harness.options import EXAMPLE
from tests.harness.postgres import Cluster
from tests.harness.processes import run

UNITS = sorted((Path(__file__).resolve().parents[2] / "deploy" / "systemd").glob("*.service"))
INSTALLED = "/opt/curfew/bin"


def settings(unit: Path) -> dict[str, str]:
    """A unit's settings; of one that stands twice, the last."""
    lines = (line for line in unit.read_text().splitlines() if not line.startswith(("#", "[")))
    return {name: value for name, _, value in (line.partition("=") for line in lines if line)}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    """Not a word from `systemd-analyze verify`, with the programs where this environment has them."""
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not here")
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace(INSTALLED, str(Path(sys.executable).parent)))
    done = run([program, "verify", "--man=no", here])
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_unit_names_a_command_that_exists(unit: Path) -> None:
    """Program and arguments: `serve` is understood where it stands."""
    program, *arguments = settings(unit)["ExecStart"].split()
    assert program.startswith(INSTALLED)
    done = run([Path(sys.executable).parent / Path(program).name, *arguments, "--help"])
    assert "serve" in done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_state_is_where_the_example_has_it(unit: Path) -> None:
    """`StateDirectory` is what config.example.toml says, or what it shows as the default."""
    name = unit.stem.removeprefix("curfew-")
    shown = tomllib.loads(EXAMPLE.read_text())[name].get("state_dir", "/var/lib/curfew/proxy")
    assert shown == f"/var/lib/{settings(unit)['StateDirectory']}"


def test_systemd_waits_for_the_proxy_to_drain() -> None:
    """Longer than the proxy does by itself: a SIGKILL in the middle of a drain would leave the end to the reaper."""
    needed = dict.fromkeys(("name", "tls_certificate_file", "tls_key_file", "jwks_file", "issuer", "audience"), "x")
    proxy = msgspec.convert(needed, ProxySettings)
    unit = next(unit for unit in UNITS if unit.name == "curfew-proxy.service")
    assert float(settings(unit)["TimeoutStopSec"]) > proxy.drain_timeout_s + proxy.stop_timeout_s + PARTING_S


def test_the_proxy_tells_systemd(make_proxy: MakeProxy, postgres: Cluster, tmp_path: Path) -> None:
    """`Type=notify`: ready once it listens, and when it begins to stop."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(20)
        systemd.bind(str(tmp_path / "notify"))
        proxy = make_proxy(postgres, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert systemd.recv(100) == b"READY=1"
        proxy.signal(signal.SIGTERM)
        assert systemd.recv(100) == b"STOPPING=1"
