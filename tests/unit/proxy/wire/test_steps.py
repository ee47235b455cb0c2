"""A statement's two records are written field by field: byte for byte what the records' own encoder would write."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.record import Parameter, Ran, Record, StatementEnd, StatementStart
from proxy.wire.statements import Portal, Prepared, Text
from proxy.wire.steps import Kind, Step, start_of

COUNTS = st.integers(0, 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NULLS = st.none()
PARAMETERS = st.lists(
    st.builds(Parameter, type=st.integers(0, 2**32 - 1), value=NULLS | TEXTS | st.booleans() | st.integers(-9, 9))
)
STATES = st.sampled_from(["I", "T", "E"])


def fields(record: Record) -> str:
    """What follows `prev` in the line."""
    record.prev = "0"
    return msgspec.json.encode(record).decode().partition('"prev":"0"')[2].removesuffix("}")


@given(
    st.fixed_dictionaries(
        {"statement": COUNTS, "duration": COUNTS, "tags": st.lists(TEXTS), "rows": COUNTS},
        optional={
            "bytes_in": COUNTS,
            "bytes_out": COUNTS,
            "skipped": st.booleans(),
            "suspended": st.booleans(),
            "state": NULLS | STATES,
            "ran": st.builds(Ran, sql=TEXTS, name=NULLS | TEXTS, masked=st.booleans(), parameters=NULLS | PARAMETERS),
        },
    ),
    NULLS | st.tuples(TEXTS, TEXTS),
)
def test_an_end(values: dict[str, Any], error: tuple[str, str] | None) -> None:
    """Each field where it belongs, or left out where it says nothing."""
    if error is not None:
        values["sqlstate"], values["message"] = error
    step = Step(Kind.QUERY)
    for name, value in values.items():
        setattr(step, name, value)
    assert step.end() == fields(StatementEnd(**values))


@given(
    st.builds(
        StatementStart,
        statement=COUNTS,
        kind=st.sampled_from(["query", "execute"]),
        sql=TEXTS,
        sql_base64=NULLS | st.binary().map(bytes.hex),
        masked=st.booleans(),
        continued=st.booleans(),
        pipelined=st.booleans(),
        state=STATES,
        transaction=COUNTS,
    ),
    NULLS | PARAMETERS,
    NULLS | TEXTS,
)
def test_a_start(record: StatementStart, parameters: list[Parameter] | None, name: str | None) -> None:
    """Of a Query, and of an Execute with everything that it can have."""
    text = Text(record.sql, record.sql_base64, ("secret",) if record.masked else ())
    step = Step(Kind.QUERY, record.statement, 0, 0, record.sql, record.pipelined)
    if record.kind == "query":
        record.continued = False
        start = start_of(step, "query", text.fields, record.state, record.transaction)
    else:
        record.parameters, record.name = parameters, name
        portal = Portal(b"", Prepared(b"", text, shown=name), parameters)
        portal.begun = record.continued
        start = portal.start(step, record.state, record.transaction)
    assert start == fields(record)
