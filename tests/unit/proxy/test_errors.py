"""The errors that clients are told: short enough for libpq before it is logged in (row 32 of PROTOCOL.md)."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy import errors
from proxy.contract.grant import Refusal
from proxy.errors import SessionError
from proxy.wire import messages
from proxy.wire.framing import BackendFramer

MOST_BYTES = 30_000
"""fe-connect.c: an ErrorResponse longer than this is taken for a lost synchronisation."""

long_texts = st.builds(str.__mul__, st.text(min_size=1, max_size=3), st.sampled_from([0, 1, 2_000, 40_000]))


def kinds(of: type[SessionError] = SessionError) -> list[type[SessionError]]:
    """Every kind of error, but for PostgreSQL's own, which comes behind AuthenticationOk."""
    found = [of, *(kind for more in of.__subclasses__() for kind in kinds(more))]
    return [kind for kind in found if not issubclass(kind, errors.StartRefused)]


def made(kind: type[SessionError], text: str, detail: str, hint: str) -> SessionError:
    """One of them, with these texts wherever it takes texts."""
    if kind is errors.GrantEnded:
        return errors.GrantEnded("expired", text, detail=detail, hint=hint)
    if kind is errors.ReplicationNotAllowed:
        return errors.ReplicationNotAllowed(detail=detail, hint=hint, grant=text)
    if issubclass(kind, errors.NotAdmitted):
        return kind(Refusal.MALFORMED, text, grant=text)
    return kind(text, detail=detail)


@pytest.mark.parametrize("kind", kinds())
@settings(max_examples=20)
@example(text="x" * 40_000, detail="ä" * 40_000, hint="\0" * 40_000)
@given(text=long_texts, detail=long_texts, hint=long_texts)
def test_short_enough(kind: type[SessionError], text: str, detail: str, hint: str) -> None:
    """One whole message, whatever the texts, and short."""
    said = made(kind, text, detail, hint).as_message()
    assert len(said) - 1 <= MOST_BYTES
    framer = BackendFramer()
    assert len(framer.feed(said)) == 1
    assert framer.boundary == len(said)
    fields = messages.parse_error(said[5:])
    assert (fields["V"], len(fields["C"])) == ("FATAL", 5)


@given(text=long_texts, detail=long_texts)
def test_a_refusal_tells_nothing_of_its_cause(text: str, detail: str) -> None:
    """Neither the refusal nor what the log says of it."""
    plain = errors.NotAdmitted(Refusal.MALFORMED).as_message()
    for refusal in Refusal:
        assert errors.NotAdmitted(refusal, text + detail, grant=text).as_message() == plain
