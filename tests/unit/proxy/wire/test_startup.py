"""First packets: PROTOCOL.md rows 12 and 16 to 23."""

import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.wire import startup
from proxy.wire.messages import SSL_REQUEST, cancel_request, startup_message
from proxy.wire.startup import CancelRequest, GssRequest, SslRequest, Startup, StartupError

names = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name)


def first(length: int, code: int) -> bytes:
    """The first eight bytes of a packet."""
    return struct.pack("!iI", length, code)


class TestClassify:
    """What a packet is, by its first eight bytes."""

    def test_each_kind(self) -> None:
        """The four kinds, as clients send them."""
        assert startup.classify(SSL_REQUEST) == SslRequest()
        assert startup.classify(first(8, 80_877_104)) == GssRequest()
        assert startup.classify(cancel_request(7, b"abcd")[:8]) == CancelRequest(length=16)
        assert startup.classify(cancel_request(7, bytes(256))[:8]) == CancelRequest(length=268)
        packet = startup_message([(b"user", b"dba1")])
        assert startup.classify(packet[:8]) == Startup(length=len(packet), version=0x30000)

    @pytest.mark.parametrize("length", [-(2**31), -1, 0, 7, 10_005, 11_000, 2**31 - 1])
    @pytest.mark.parametrize("code", [0x30000, 80_877_102, 80_877_103, 80_877_104])
    def test_lengths_out_of_range(self, length: int, code: int) -> None:
        """Closed without a word, as PostgreSQL does."""
        with pytest.raises(StartupError) as caught:
            startup.classify(first(length, code))
        assert caught.value.silent

    @pytest.mark.parametrize("length", [8, 10_004])
    def test_lengths_in_range(self, length: int) -> None:
        """PostgreSQL's own bounds."""
        assert startup.classify(first(length, 0x30000)) == Startup(length=length, version=0x30000)

    @pytest.mark.parametrize(
        ("length", "code"), [(9, 80_877_103), (12, 80_877_104), (15, 80_877_102), (269, 80_877_102)]
    )
    def test_requests_of_another_length(self, length: int, code: int) -> None:
        """A request has its one length; a cancel's secret is of 4 to 256 bytes."""
        with pytest.raises(StartupError) as caught:
            startup.classify(first(length, code))
        assert caught.value.silent

    @pytest.mark.parametrize(
        "garbage", [b"GET / HT", b"SSH-2.0-", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\r\n\r\n\r\n\r\n"]
    )
    def test_other_protocols(self, garbage: bytes) -> None:
        """HTTP, SSH and TLS get no answer."""
        with pytest.raises(StartupError) as caught:
            startup.classify(garbage)
        assert caught.value.silent

    @pytest.mark.parametrize("version", [0x20000, 0x40000, 0x10000, 80_877_105, 0])
    def test_other_majors(self, version: int) -> None:
        """Another major version is told so, with its SQLSTATE: it is not negotiable."""
        with pytest.raises(StartupError) as caught:
            startup.classify(first(296, version))
        assert (caught.value.silent, caught.value.sqlstate) == (False, "0A000")
        assert f"{version >> 16}.{version & 0xFFFF}" in str(caught.value)

    @pytest.mark.parametrize("minor", [0, 1, 2, 9999, 0xFFFF])
    def test_minors(self, minor: int) -> None:
        """Any minor is a startup: negotiation is the session's matter (libpq 19 sends 3.9999)."""
        assert startup.classify(first(100, 0x30000 | minor)) == Startup(length=100, version=0x30000 | minor)

    @given(st.binary(min_size=8, max_size=8))
    def test_never_fails_otherwise(self, data: bytes) -> None:
        """Any eight bytes are a packet or a StartupError."""
        try:
            startup.classify(data)
        except StartupError as error:
            assert error.sqlstate in {"08P01", "0A000"}  # noqa: PT017 either outcome is right


class TestStartup:
    """What a StartupMessage holds."""

    def test_fields(self) -> None:
        """Parameters come byte for byte, in order; protocol options apart."""
        parameters = ((b"user", b"dba1"), (b"database", b"orders/main"), (b"options", b"-c search_path=a\\,\\ b"))
        packet = startup_message([*parameters, (b"_pq_.test_protocol_negotiation", b"x"), (b"bad\xff", b"\xfe")])
        parsed = startup.parse_startup(packet[8:], 0x3270F)
        assert parsed.parameters == (*parameters, (b"bad\xff", b"\xfe"))
        assert parsed.unknown_options == (b"_pq_.test_protocol_negotiation",)
        assert (parsed.user, parsed.database, parsed.minor) == ("dba1", "orders/main", 9999)

    def test_last_duplicate_wins(self) -> None:
        """As in PostgreSQL: what is judged and what is sent on are the same one."""
        packet = startup_message([(b"user", b"a"), (b"database", b"x"), (b"user", b"b"), (b"database", b"y")])
        parsed = startup.parse_startup(packet[8:], 0x30000)
        assert (parsed.user, parsed.database) == ("b", "y")
        assert parsed.parameters == ((b"user", b"b"), (b"database", b"y"))

    @pytest.mark.parametrize("parameters", [[(b"user", b"u")], [(b"user", b"u"), (b"database", b"")]])
    def test_database_is_user(self, parameters: list[tuple[bytes, bytes]]) -> None:
        """A missing or empty database means the user's name."""
        assert startup.parse_startup(startup_message(parameters)[8:], 0x30000).database == "u"

    @pytest.mark.parametrize("body", [b"\0", b"database\0d\0\0", b"user\0\0\0"])
    def test_no_user(self, body: bytes) -> None:
        """28000, in PostgreSQL's words."""
        with pytest.raises(StartupError, match="no PostgreSQL user name") as caught:
            startup.parse_startup(body, 0x30000)
        assert caught.value.sqlstate == "28000"

    @pytest.mark.parametrize(
        "body", [b"", b"user", b"user\0", b"user\0u", b"user\0u\0", b"user\0u\0\0x", b"user\0u\0\0\0", b"user\0u\0x\0"]
    )
    def test_no_terminator(self, body: bytes) -> None:
        """08P01 unless an empty name is the packet's very last byte."""
        with pytest.raises(StartupError, match="terminator") as caught:
            startup.parse_startup(body, 0x30000)
        assert caught.value.sqlstate == "08P01"

    @pytest.mark.parametrize("name", [b"user", b"database"])
    def test_names_that_are_not_text(self, name: bytes) -> None:
        """A name that is not UTF-8 matches no grant, and must not look like one that does."""
        body = startup_message([(b"user", b"u"), (name, b"\xff")])[8:]
        with pytest.raises(StartupError, match="UTF-8"):
            startup.parse_startup(body, 0x30000)

    @given(st.lists(st.tuples(names, st.binary(max_size=20).filter(lambda value: b"\0" not in value))))
    def test_round_trip(self, parameters: list[tuple[bytes, bytes]]) -> None:
        """What `startup_message` builds is read back, the last of each name."""
        assume(b"replication" not in dict(parameters))  # whose values are judged
        wanted = [*parameters, (b"user", b"dba1"), (b"database", b"d")]
        parsed = startup.parse_startup(startup_message(wanted)[8:], 0x30000)
        assert dict(parsed.parameters) == {k: v for k, v in wanted if not k.startswith(b"_pq_.")}

    @given(st.binary(max_size=60))
    def test_never_fails_otherwise(self, body: bytes) -> None:
        """Any body is a message or a StartupError, and a message's bytes are all accounted for."""
        try:
            parsed = startup.parse_startup(body, 0x30000)
        except StartupError:
            return
        assert sum(len(k) + len(v) + 2 for k, v in parsed.parameters) <= len(body) - 1


class TestCancel:
    """What a CancelRequest holds."""

    @given(st.integers(-(2**31), 2**31 - 1), st.binary(min_size=4, max_size=256))
    def test_round_trip(self, pid: int, secret: bytes) -> None:
        """Secrets of protocol 3.0 (4 bytes) and of 3.2 (up to 256)."""
        assert startup.parse_cancel(cancel_request(pid, secret)[8:]) == (pid, secret)

    @pytest.mark.parametrize("size", [0, 4, 7, 261])
    def test_other_lengths(self, size: int) -> None:
        """No secret of another size is looked up."""
        with pytest.raises(StartupError):
            startup.parse_cancel(bytes(size))
