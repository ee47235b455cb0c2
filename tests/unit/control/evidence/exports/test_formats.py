"""What holds for every format."""

import pytest

from control.evidence.exports.formats import Format, exporter
from tests.unit.control.evidence.exports.story import story, told, written

WRITTEN = [form for form in Format if form is not Format.RECORDS]


@pytest.mark.parametrize("form", WRITTEN)
def test_a_line_is_a_line_for_everybody_and_acts_on_nobody(form: Format) -> None:
    """Whatever a session's texts hold: other programs know more line ends, and terminals more escapes, than JSON."""
    session, items = told(*story())
    shown = written(exporter(form, session, version="1", summary={}), items).decode()
    assert shown.splitlines() == shown.removesuffix("\n").split("\n")
    assert shown.replace("\n", "").replace("\t", "").isprintable()


def test_records_are_not_written_anew() -> None:
    """They are passed on, byte for byte."""
    session, _ = told(*story())
    with pytest.raises(ValueError, match="passed on"):
        exporter(Format.RECORDS, session, version="1", summary={})
