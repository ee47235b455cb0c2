"""The gate: what still goes on of a client's stream when nothing may begin, however it is cut."""

import pytest

from proxy.wire.framing import FrontendFramer
from proxy.wire.gate import COPY_DATA, Gate, first
from tests.unit.proxy.wire import reference
from tests.unit.proxy.wire.playbook import COPY_DONE, SYNC, TERMINATE, bind, copy_data, copy_fail, execute, parse, query
from tests.unit.proxy.wire.reference import message

FLUSH = message(b"H")
STILL = copy_data(b"Q" * 20) + SYNC + copy_data(b"") + FLUSH + COPY_DONE + copy_fail() + SYNC
OTHERS = (
    query("x"),
    parse("x"),
    bind(),
    execute(),
    message(b"F", b"\0\0\0\1"),
    message(b"D", b"S\0"),
    message(b"C", b"S\0"),
)


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: chr(other[0]))
@pytest.mark.parametrize("begun", [b"", copy_data(b"y" * 9)[:8]], ids=["between messages", "inside CopyData"])
def test_wherever_the_stream_is_cut(begun: bytes, other: bytes) -> None:
    """What belongs to what runs passes; the first message that would begin something does not, nor anything later."""
    rest = copy_data(b"y" * 9)[len(begun) :] if begun else b""
    stream, good = rest + STILL + other + STILL, rest + STILL
    for cut in range(len(stream) + 1):
        framer = FrontendFramer(1_000)
        framer.feed(begun)
        gate = Gate(framer.copy_left)
        passed = kinds = copied = b""
        for part in (stream[:cut], stream[cut:]):
            messages, forward = framer.feed(part)
            size, count = gate.passes(forward)
            passed += forward[:size]
            going = first(messages, count) if size else []
            kinds += bytes(kind for kind, _ in going)
            copied = next((body for kind, body in reversed(going) if kind == COPY_DATA), copied)
        assert (passed, kinds.replace(b"d", b""), gate.shut) == (good, b"SHcfS", True)
        assert int.from_bytes(copied) == reference.copied(begun + good)


def test_terminate() -> None:
    """It begins nothing: PostgreSQL takes it when it is done."""
    gate = Gate(0)
    assert gate.passes(SYNC + TERMINATE) == (10, 2)
    assert not gate.shut
