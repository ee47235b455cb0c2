"""Messages that the proxy itself builds, and the fields of errors."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import messages
from proxy.wire.framing import BackendFramer


def body(message: bytes) -> bytes:
    """A message's body; its header must be honest."""
    assert struct.unpack("!i", message[1:5])[0] == len(message) - 1
    return message[5:]


def test_constants() -> None:
    """Against the bytes of PostgreSQL's page "Message Formats"."""
    assert messages.AUTHENTICATION_OK == b"R\0\0\0\x08\0\0\0\0"
    assert messages.AUTHENTICATION_CLEARTEXT == b"R\0\0\0\x08\0\0\0\x03"
    assert messages.TERMINATE == b"X\0\0\0\x04"
    assert messages.SYNC == b"S\0\0\0\x04"
    assert messages.SSL_REQUEST == b"\0\0\0\x08\x04\xd2\x16\x2f"


def test_builders() -> None:
    """Each builder's exact bytes."""
    assert messages.backend_key_data(7, b"abcd") == b"K\0\0\0\x0c\0\0\0\x07abcd"
    assert messages.cancel_request(7, b"abcd") == b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07abcd"
    assert messages.password_message(b"s3cret") == b"p\0\0\0\x0bs3cret\0"
    assert messages.sasl_initial("SCRAM-SHA-256", b"n,,") == b"p\0\0\0\x19SCRAM-SHA-256\0\0\0\0\x03n,,"
    assert messages.sasl_response(b"c=biws") == b"p\0\0\0\x0ac=biws"
    assert messages.query("select 1") == b"Q\0\0\0\x0dselect 1\0"
    assert messages.startup_message([(b"user", b"u")]) == b"\0\0\0\x10\0\x03\0\0user\0u\0\0"
    assert messages.negotiate_protocol_version(2, [b"_pq_.a"]) == b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.a\0"


@pytest.mark.parametrize("parameters", [[(b"", b"x")], [(b"user", b"u\0options\0-c role=admin")], [(b"a\0b", b"c")]])
def test_startup_message_cannot_be_smuggled_into(parameters: list[tuple[bytes, bytes]]) -> None:
    """No name or value may end the message early or add a parameter (PROTOCOL.md row 24)."""
    with pytest.raises(ValueError, match=r"parameter|NUL"):
        messages.startup_message(parameters)


def test_no_nul_in_strings() -> None:
    """A password or a query with a NUL would be cut by the server."""
    with pytest.raises(ValueError, match="NUL"):
        messages.password_message(b"a\0b")
    with pytest.raises(ValueError, match="NUL"):
        messages.query("select 1\0; drop table t")


def test_error_response() -> None:
    """All fields, in libpq's order, and each once."""
    error = messages.error_response("FATAL", "57P01", "grant ended", "It expired at 12:00.", "Ask again.")
    assert error[:1] == b"E"
    assert body(error) == b"SFATAL\0VFATAL\0C57P01\0Mgrant ended\0DIt expired at 12:00.\0HAsk again.\0\0"
    assert messages.parse_error(body(error)) == {
        "S": "FATAL", "V": "FATAL", "C": "57P01", "M": "grant ended", "D": "It expired at 12:00.", "H": "Ask again.",
    }  # fmt: skip
    assert b"\0D" not in messages.error_response("FATAL", "57P01", "m")
    assert messages.notice_response("WARNING", "01000", "soon")[:1] == b"N"


@given(st.text(), st.text(), st.text())
def test_error_response_is_always_sound(text: str, detail: str, hint: str) -> None:
    """Whatever the texts: one message, its fields whole, under libpq's 30,000 bytes, fit for a terminal."""
    error = messages.error_response("FATAL", "28P01", text, detail, hint)
    framer = BackendFramer()
    assert len(framer.feed(error)) == 1
    assert framer.boundary == len(error)
    fields = messages.parse_error(body(error))
    assert fields.get("M", "") == messages.sanitise(text)
    assert set(fields) <= set("SVCMDH")


def test_error_response_is_short() -> None:
    """Texts are cut to stay under the 30,000 bytes that libpq takes before it is logged in, at a character's edge."""
    error = messages.error_response("FATAL", "28P01", "ä€𝄞" * 9_000, "x" * 100_000, "y" * 100_000)
    assert len(error) < 30_000
    fields = messages.parse_error(body(error))
    assert all(fields[letter].endswith("...") for letter in "MDH")
    assert "\ufffd" not in fields["M"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain, ünïcödé\n\ttext", "plain, ünïcödé\n\ttext"),
        ("nul\0 esc\x1b[31m bell\x07 cr\r del\x7f c1\x9b", "nul? esc?[31m bell? cr? del? c1?"),
        ("rtl\u202e iso\u2066 line\u2028 surrogate\ud800", "rtl? iso? line? surrogate?"),
    ],
)
def test_sanitise(text: str, clean: str) -> None:
    """Nothing that a terminal obeys comes through."""
    assert messages.sanitise(text) == clean


@given(st.binary(max_size=100))
def test_parse_error_takes_anything(data: bytes) -> None:
    """A hostile server's ErrorResponse, without a terminator or not UTF-8, is read as far as it goes."""
    assert all(len(letter) == 1 for letter in messages.parse_error(data))


def test_parse_error_first_wins() -> None:
    """Of two fields alike, the first."""
    assert messages.parse_error(b"C57P01\0C00000\0M\xff\0\0") == {"C": "57P01", "M": "\ufffd"}
