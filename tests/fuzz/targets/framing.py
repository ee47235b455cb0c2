"""The framers: the compiled one and its Python twin, fed the same chunks, answer alike at every step.

And all chunks together give the messages, the bytes and the verdict of a reference that reads the whole stream at once,
with nothing held back beyond the limit.
"""

from typing import Any

from tests.fuzz import turns, twins
from tests.unit.proxy.wire import reference

LIMIT = 150_000
"""Of a message that must be whole before it goes on: more than the compiled framer gathers at a time."""
TWINS = twins.load()
DICTIONARY = (*turns.FROM_CLIENT, *turns.FROM_SERVER)
mutate = turns.mutate


def check(data: bytes) -> None:
    """Feed both directions."""
    conversation = turns.read(data)
    _client([turn.data for turn in conversation if turn.by_client])
    _server([turn.data for turn in conversation if not turn.by_client])


def _client(chunks: list[bytes]) -> None:
    steps = [_frontend(twin.framing.FrontendFramer(LIMIT), chunks) for twin in TWINS]
    assert all(other == steps[0] for other in steps)
    stream = b"".join(chunks)
    expected, goes_on, dies = reference.frontend(stream, LIMIT)
    assert [one for step in steps[0] for one in step[0]] == expected
    assert b"".join(step[1] for step in steps[0]) == goes_on
    if steps[0]:
        _, _, pending, copied, error = steps[0][-1]
        assert (error is not None) == dies
        assert pending == (0 if dies else len(stream) - len(goes_on))
        assert copied == reference.copied(goes_on)


def _frontend(framer: Any, chunks: list[bytes]) -> list[tuple[Any, ...]]:  # noqa: ANN401 either twin's
    steps = []
    for chunk in chunks:
        messages, forward = framer.feed(chunk)
        assert framer.pending <= LIMIT + 1, "no length counts the type byte"
        steps.append((messages, forward, framer.pending, framer.copy_bytes, framer.error))
    return steps


def _server(chunks: list[bytes]) -> None:
    steps = [_backend(twin.framing.BackendFramer(), chunks) for twin in TWINS]
    assert all(other == steps[0] for other in steps)
    stream = b"".join(chunks)
    expected, boundary, dies = reference.backend(stream)
    assert [one for step in steps[0] for one in step[0]] == expected
    if steps[0]:
        _, position, found, copied, error = steps[0][-1]
        assert (position, found) == (len(stream), boundary)
        assert (error is not None) == dies
        assert copied == reference.copied(stream[:boundary] if dies else stream)


def _backend(framer: Any, chunks: list[bytes]) -> list[tuple[Any, ...]]:  # noqa: ANN401 either twin's
    return [(framer.feed(chunk), framer.position, framer.boundary, framer.copy_bytes, framer.error) for chunk in chunks]
