"""The ledger: what is written is there after a crash, and what was not finished is no harm."""

from pathlib import Path

import pytest

from proxy import account_ledger
from proxy.account_ledger import FILE, Entry, Ledger, LedgerError


def entry(account: str, **changed: object) -> Entry:
    """An account on a target."""
    named = {"target": "orders", "grant": "g", "person": "p", "identity": "ephemeral", "until": 5.0, **changed}
    return Entry(account=account, **named)  # type: ignore[arg-type]


def test_what_is_open_is_there_again(tmp_path: Path) -> None:
    """And what is gone, or was told anew, is not."""
    ledger = Ledger.open(tmp_path)
    ledger.note(entry("a"))
    ledger.note(entry("b"))
    ledger.note(entry("a", until=9.0, revoked=True))
    ledger.strike("orders", "b")
    ledger.strike("orders", "unknown")
    ledger.close()
    assert list(Ledger.open(tmp_path).entries.values()) == [entry("a", until=9.0, revoked=True)]


@pytest.mark.parametrize("torn", [b'{"open":{"account":"c"', b"\xff\xff", b"x"])
def test_a_torn_tail_is_no_harm(tmp_path: Path, torn: bytes) -> None:
    """It is passed over, and does not spoil the next line."""
    ledger = Ledger.open(tmp_path)
    ledger.note(entry("a"))
    ledger.close()
    with (tmp_path / FILE).open("ab") as file:
        file.write(torn)
    again = Ledger.open(tmp_path)
    again.note(entry("b"))
    again.close()
    assert {one.account for one in Ledger.open(tmp_path).entries.values()} == {"a", "b"}


def test_a_broken_line_costs_itself_alone(tmp_path: Path) -> None:
    """The sweep finds what it told of."""
    ledger = Ledger.open(tmp_path)
    ledger.note(entry("a"))
    ledger.close()
    path = tmp_path / FILE
    path.write_bytes(b'{"v":2}\nrubbish\n' + path.read_bytes())
    assert {one.account for one in Ledger.open(tmp_path).entries.values()} == {"a"}


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gone goes from the file too."""
    monkeypatch.setattr(account_ledger, "COMPACT_BYTES", 10_000)
    ledger = Ledger.open(tmp_path)
    ledger.note(entry("stays"))
    for number in range(100):
        ledger.note(entry(f"{number:060}"))
        ledger.strike("orders", f"{number:060}")
    ledger.close()
    assert (tmp_path / FILE).stat().st_size <= 11_000
    assert {one.account for one in Ledger.open(tmp_path).entries.values()} == {"stays"}


def test_two_processes_do_not_share_one(tmp_path: Path) -> None:
    """Nor does it have rights for others."""
    ledger = Ledger.open(tmp_path)
    with pytest.raises(LedgerError, match=FILE):
        Ledger.open(tmp_path)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    ledger.remove()
    assert not (tmp_path / FILE).exists()
