"""The `curfew-control` command: setting up, and what it says where something is wrong."""

from pathlib import Path

import pytest

from tests.integration.control.service import Service, parse


def test_setting_up(fresh: Service) -> None:
    """What it prints is the key and nothing else; the files are the owner's alone."""
    code, key, words = fresh.command("init", "--admin", "root")
    assert (code, key.startswith("cfk_"), len(key.splitlines())) == (0, True, 1)
    assert key not in words
    for path in [fresh.state, *fresh.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_setting_up_twice(fresh: Service) -> None:
    """Nothing is overwritten."""
    fresh.command("init")
    before = sorted(path.name for path in (fresh.state / "keys").iterdir())
    code, out, words = fresh.command("init", check=False)
    assert (code, out) == (1, "")
    assert "is initialised already" in words
    assert sorted(path.name for path in (fresh.state / "keys").iterdir()) == before


def test_setting_up_after_a_failed_try(fresh: Service) -> None:
    """A bad name left a database without people; the next try ends the work, with the same key."""
    code, _, words = fresh.command("init", "--admin", "a/b", check=False)
    assert (code, "control character or '/'" in words) == (1, True)
    assert fresh.command("init")[1].startswith("cfk_")
    assert len([key for key in (fresh.state / "keys").iterdir() if key.name != "log.pem"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve",),
        ("person", "add", "ada", "--role", "requester"),
        ("join-token",),
        ("rotate-keys",),
        ("reap", "edge", "--reason", "x"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_before_it_is_set_up(fresh: Service, arguments: tuple[str, ...]) -> None:
    """It says what to do, and creates nothing."""
    code, out, words = fresh.command(*arguments, check=False)
    assert (code, out) == (1, "")
    assert "run `curfew-control init` first" in words
    assert not fresh.state.exists()


def test_reaping_nobody(ready: Service) -> None:
    """A name that no proxy has."""
    code, out, words = ready.command("reap", "edge", "--reason", "the machine burned", check=False)
    assert (code, out) == (1, "")
    assert "there is no such proxy" in words


def test_somebody_twice(ready: Service) -> None:
    """There is one of each name."""
    code, _, words = ready.command("person", "add", "ada", "--role", "auditor", check=False)
    assert (code, "already" in words) == (1, True)


def test_check_shows_what_is_in_force(fresh: Service) -> None:
    """Defaults filled in."""
    code, out, _ = fresh.command("check")
    shown = parse(out)
    assert code == 0
    assert shown["control"]["audience"] == "curfew"
    assert shown["targets"]["orders"]["port"] == 5432


def test_check_names_every_fault(fresh: Service) -> None:
    """A line each, exit code 1, and no traceback."""
    text = fresh.config.read_text().replace("state_dir", "state_dri").replace("keeper.user", "keeper.usr")
    fresh.config.write_text(text)
    code, out, words = fresh.command("check", check=False)
    assert (code, out) == (1, "")
    assert "control.state_dri: unknown key; did you mean 'state_dir'?" in words
    assert "targets.orders.keeper.usr: unknown key" in words
    assert "Traceback" not in words


def test_a_key_that_others_can_read(ready: Service) -> None:
    """It does not serve with it."""
    (key,) = (key for key in (ready.state / "keys").iterdir() if key.name != "log.pem")
    key.chmod(0o644)
    code, _, words = ready.command("serve", check=False)
    assert (code, "others can read this signing key" in words) == (1, True)


def test_a_certificate_that_is_none(ready: Service) -> None:
    """Said at start, with the option."""
    Path(ready.config.parent / "control.pem").write_text("nonsense")
    code, _, words = ready.command("serve", check=False)
    assert (code, "control.tls_certificate_file" in words, "Traceback" in words) == (1, True, False)


def test_a_port_that_is_taken(service: Service, fresh: Service) -> None:
    """Said at start, with the option."""
    port = service.url.rpartition(":")[2]
    fresh.config.write_text(fresh.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    code, _, words = fresh.command("serve", check=False)
    assert (code, "control.listen: cannot listen on" in words) == (1, True)


def test_a_database_that_is_none(ready: Service) -> None:
    """A file of something else is not touched."""
    database = ready.state / "control.sqlite3"
    for extra in ("-wal", "-shm"):
        Path(f"{database}{extra}").unlink(missing_ok=True)
    database.write_bytes(b"not a database" * 100)
    code, _, words = ready.command("serve", check=False)
    assert (code, "Traceback" in words) == (1, False)
    assert "control.state_dir cannot be used" in words
    assert "not a database" in words
    assert database.stat().st_size == 1_400
