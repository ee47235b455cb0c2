"""Function calls by number, as clients of large objects make them: what was called, with what, and what it gave."""

import base64
import struct

from proxy.contract.record import Parameter, StatementEnd, StatementStart
from tests.harness.wire import Wire, message
from tests.integration.evidence.conftest import Audit

LO_CREATE, LO_OPEN, LOWRITE, LO_LSEEK, LOREAD, LO_CLOSE = 715, 952, 955, 956, 954, 953
READ_AND_WRITE = 0x60000
LENGTH = 200_000
"""More than one segment of a stream, and than what is kept of an answer's body at once."""


def call(function: int, *arguments: int | bytes | None) -> bytes:
    """A FunctionCall, all in binary."""
    raw = [struct.pack("!I", one) if isinstance(one, int) else one for one in arguments]
    sized = [struct.pack("!i", -1) if one is None else struct.pack("!i", len(one)) + one for one in raw]
    head = struct.pack("!IHHH", function, 1, 1, len(arguments))
    return message("F", head + b"".join(sized) + struct.pack("!H", 1))


async def result(wire: Wire, asked: bytes) -> bytes:
    """What it gives; nothing for NULL."""
    wire.send(asked)
    answer = next(said for said in await wire.until("Z") if said.kind in ("V", "E"))
    assert answer.kind == "V", answer
    return answer.body[4:]


async def test_a_large_object(audit: Audit) -> None:
    """Its data is on record as it was written, decoded where the types are known; of what was read, the size."""
    data = bytes(range(256)) * (LENGTH // 256)
    one = await audit.whole.grant()
    async with await audit.log_in(one) as wire:
        await wire.run("BEGIN")
        made = struct.unpack("!I", await result(wire, call(LO_CREATE, 0)))[0]
        await result(wire, call(LO_OPEN, made, READ_AND_WRITE))
        await result(wire, call(LOWRITE, 0, data))
        await result(wire, call(LO_LSEEK, 0, 0, 0))
        assert await result(wire, call(LOREAD, 0, len(data))) == data
        await result(wire, call(LO_CLOSE, None))
        session = (await audit.leave(wire, one))["id"]
    records = audit.records(one)
    starts = [record for record in records if isinstance(record, StatementStart) and record.kind == "function"]
    ends = {record.statement: record for record in records if isinstance(record, StatementEnd)}
    assert [(start.function, start.parameters) for start in starts] == [
        (LO_CREATE, [Parameter(26, 0)]),
        (LO_OPEN, [Parameter(26, made), Parameter(23, READ_AND_WRITE)]),
        (LOWRITE, [Parameter(23, 0), Parameter(17, base64=base64.b64encode(data).decode(), binary=True)]),
        (LO_LSEEK, [Parameter(23, 0), Parameter(23, 0), Parameter(23, 0)]),
        (LOREAD, [Parameter(23, 0), Parameter(23, len(data))]),
        (LO_CLOSE, [Parameter(23)]),
    ]
    assert [ends[start.statement].result_bytes for start in starts] == [4, 4, 4, 4, len(data), None]
    shown = await audit.auditor("replay", session, "--instant")
    assert "a call of function 952, lo_open" in shown
    assert "a result of 200 kB" in shown
