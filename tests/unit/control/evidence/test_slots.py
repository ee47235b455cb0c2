"""Replication slots that a session has left behind, from its statements."""

import pytest

from control.evidence.slots import MOST, Slots
from proxy.contract.record import StatementEnd, StatementStart

CREATE = 'CREATE_REPLICATION_SLOT "s" PHYSICAL'


def left(*statements: str, sqlstate: str | None = None, cut: bool = False) -> list[str]:
    """What is left behind where the last of these statements failed, or never ended."""
    slots = Slots()
    for number, sql in enumerate(statements, start=1):
        last = number == len(statements)
        start = StatementStart(statement=number, kind="query", sql=sql, state="I", transaction=number)
        end = StatementEnd(statement=number, duration=1, sqlstate=sqlstate if last else None)
        slots.take(start, None if cut and last else end)
    return slots.left


@pytest.mark.parametrize(
    "sql",
    [
        CREATE,
        "create_replication_slot s logical pgoutput (SNAPSHOT 'nothing')",
        "\n CREATE_REPLICATION_SLOT s LOGICAL temporary",
    ],
)
def test_made(sql: str) -> None:
    """By any spelling that PostgreSQL takes; `temporary` behind the kind is a plugin's name."""
    assert left(sql) == ["s"]
    assert left(sql, "IDENTIFY_SYSTEM") == ["s"]
    assert left(sql, sqlstate="42710") == []


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL",
        "START_REPLICATION SLOT s 0/0",
        "SELECT 'CREATE_REPLICATION_SLOT s PHYSICAL'",
        "CREATE_REPLICATION_SLOT",
        "",
    ],
)
def test_none_made(sql: str) -> None:
    """Temporary ones go with the session."""
    assert left(sql) == []


def test_dropped() -> None:
    """Only where PostgreSQL has said so; and not another one."""
    assert left(CREATE, "DROP_REPLICATION_SLOT s WAIT") == []
    assert left(CREATE, "DROP_REPLICATION_SLOT s", sqlstate="55006") == ["s"]
    assert left(CREATE, "DROP_REPLICATION_SLOT s", cut=True) == ["s"]
    assert left(CREATE, 'DROP_REPLICATION_SLOT "t"') == ["s"]


def test_cut() -> None:
    """A slot that was being made when the session ended may be there."""
    assert left(CREATE, cut=True) == ["s"]


def test_no_proxy_fills_the_memory() -> None:
    """However many a hostile one says there were."""
    assert len(left(*(f"CREATE_REPLICATION_SLOT s{n} PHYSICAL" for n in range(MOST + 5)))) == MOST
