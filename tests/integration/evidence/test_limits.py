"""As many, and as long, as the protocol has them."""

import struct

from proxy.contract.record import SessionStart, StatementPrepare, StatementStart
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.wire import SYNC, bind, execute, message, parse
from tests.integration.evidence.conftest import Audit
from tests.integration.evidence.test_shown import harmless

MOST = 65_535
CUT = "é" * 31 + "x"  # 63 bytes
LONG = "é" * 40  # 80 bytes: PostgreSQL's names end in the middle of a letter


async def test_as_many_parameters_as_there_can_be(audit: Audit) -> None:
    """65,535 values, each of them on record, and in the timeline; one that is NULL, too."""
    one = await audit.whole.grant()
    sum_of_all = "SELECT " + " + ".join(f"${number}::int" for number in (1, 2, MOST)) + f", ${MOST - 1}::text IS NULL"
    values = [str(number) for number in range(1, MOST + 1)]
    sized = b"".join(struct.pack("!i", len(value)) + value.encode() for value in values[:-2])
    sized += b"\xff\xff\xff\xff" + struct.pack("!i", 5) + values[-1].encode()
    types = struct.pack(f"!H{MOST}I", MOST, *([25] * MOST))
    async with await audit.log_in(one) as wire:
        wire.send(message("P", b"\0" + sum_of_all.replace("::int", "::text::int").encode() + b"\0" + types))
        wire.send(message("B", b"\0\0" + struct.pack("!HH", 0, MOST) + sized + b"\0\0") + execute() + SYNC)
        row = next(said for said in await wire.until("Z") if said.kind == "D")
        assert row.values == [b"65538", b"t"]
        session = (await audit.leave(wire, one))["id"]
    start = next(record for record in audit.records(one) if isinstance(record, StatementStart))
    assert start.parameters is not None
    assert [value.value for value in start.parameters] == [*values[:-2], None, values[-1]]
    told = next(item for item in await audit.timeline(session) if item["kind"] == "statement")
    assert len(told["parameters"]) == MOST


async def test_names_as_long_as_postgresqls_and_longer(audit: Audit, postgres: Cluster) -> None:
    """63 bytes, and more, of each kind: PostgreSQL cuts its names, the record has them as they were said."""
    await postgres.sql(f'CREATE DATABASE "{CUT}" OWNER {roles.APP.user}')
    try:
        one = await audit.whole.grant(databases=[CUT])
        async with await audit.log_in(one, database=f"orders/{CUT}", application_name=LONG) as wire:
            for name in (CUT, LONG):
                text = f"SELECT 'by {name}'"
                wire.send(parse(text, name) + bind(name=name, portal=name) + execute(name) + SYNC)
                said = await wire.until("Z")
                assert next(each for each in said if each.kind == "D").values == [f"by {name}".encode()]
            wire.send(parse("SELECT 'again'", LONG[:-1]) + SYNC)  # the same name to PostgreSQL
            refused = next(each for each in await wire.until("Z") if each.kind == "E")
            assert refused.fields["C"] == "42P05"
            session = (await audit.leave(wire, one))["id"]
    finally:
        await postgres.sql(f'DROP DATABASE "{CUT}" WITH (FORCE)')
    records = audit.records(one)
    assert [record.name for record in records if isinstance(record, StatementStart)] == [CUT, LONG]
    assert [record.name for record in records if isinstance(record, StatementPrepare)] == [CUT, LONG, LONG[:-1]]
    assert isinstance(records[0], SessionStart)
    assert (records[0].application_name, records[0].database) == (LONG, CUT)
    shown = await audit.auditor("replay", session)
    assert CUT in shown
    assert harmless(shown)
