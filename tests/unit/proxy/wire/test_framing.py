"""The framers: the Cython one and its Python twin, under the very same tests, against a naive reference."""

import os
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import _framing_py, framing
from tests.unit.proxy.wire import reference
from tests.unit.proxy.wire.reference import header, message

LIMIT = 50_000
DATA = ord("d")

CONVERSATION = b"".join(
    [
        message(b"Q", b"select 1\0"),
        message(b"P", b"s\0select $1\0\0\0"),
        message(b"B", b"\0s\0\0\0\0\1\0\0\0\1x\0\0"),
        message(b"D", b"P\0"),
        message(b"E", b"\0\0\0\0\0"),
        message(b"S"),
        message(b"Q", b"copy t from stdin\0"),
        message(b"d", message(b"Q", b"not a message\0")),
        message(b"d"),
        message(b"c"),
        message(b"f", b"no\0"),
        message(b"F", b"\0\0\0\1"),
        message(b"C", b"Ss\0"),
        message(b"H"),
        message(b"X"),
    ]
)
ANSWERS = b"".join(
    [
        message(b"T", b"\0\1a\0" + bytes(18)),
        message(b"D", b"\0\1\0\0\0\1x"),
        message(b"C", b"SELECT 1\0"),
        message(b"Z", b"I"),
        message(b"1"),
        message(b"2"),
        message(b"t", b"\0\0"),
        message(b"N", b"SNOTICE\0\0"),
        message(b"S", b"TimeZone\0UTC\0"),
        message(b"E", b"SERROR\0C22012\0\0"),
        message(b"s"),
        message(b"I"),
        message(b"2"),
        message(b"n"),
        message(b"S", b"TimeZone\0UTC\0"),
        message(b"3"),
        message(b"E", b"SERROR\0C22012\0\0"),
        message(b"E", b"SERROR\0C22012\0\0"),
        message(b"H", b"\0\0\0"),
        message(b"d", message(b"Z", b"I")),
        message(b"c"),
        message(b"Z", b"T"),
    ]
)


def cython() -> ModuleType:
    """The extension; where it could not be built, its tests are skipped."""
    module: ModuleType = pytest.importorskip("proxy.wire._framing", exc_type=ImportError)
    return module


@pytest.fixture(params=["cython", "python"])
def twin(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 a module is as good as its attributes
    """Each implementation in turn."""
    return cython() if request.param == "cython" else _framing_py


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """`stream` in chunks, cut at these offsets (those beyond it are folded in)."""
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(edges)]


def feed_frontend(framer: Any, chunks: list[bytes]) -> tuple[list[tuple[int, bytes]], bytes]:  # noqa: ANN401 either twin's
    """All messages and all that goes on."""
    fed = [framer.feed(chunk) for chunk in chunks]
    return [one for messages, _ in fed for one in messages], b"".join(forward for _, forward in fed)


def feed_backend(framer: Any, chunks: list[bytes]) -> list[tuple[int, bytes, int]]:  # noqa: ANN401 either twin's
    """All messages."""
    return [one for chunk in chunks for one in framer.feed(chunk)]


def streams(types: bytes) -> st.SearchStrategy[bytes]:
    """Streams of messages of these types, hostile headers and garbage now and then among them."""
    kind = st.sampled_from([bytes([one]) for one in types])
    honest = st.builds(message, kind, st.binary(max_size=40) | st.integers(0, LIMIT + 10).map(bytes))
    lengths = st.sampled_from([-(2**31), -1, 0, 3, 10_001, LIMIT + 1, 2**30 + 17, 2**31 - 1])
    hostile = st.builds(header, kind, lengths) | st.binary(max_size=8)
    return st.lists(st.one_of(honest, honest, honest, honest, hostile), max_size=12).map(b"".join)


cut_lists = st.lists(st.integers(0, 10**9), max_size=8)


class TestFrontend:
    """Client to upstream."""

    @given(stream=streams(b"QPBFCDEHSXcfddd"), cuts=cut_lists)
    @pytest.mark.parametrize("name", ["cython", "python"])
    def test_agrees_with_the_reference(self, name: str, stream: bytes, cuts: list[int]) -> None:
        """Any stream, in any chunks, gives the reference's messages, bytes and verdict, and holds back the rest."""
        framer = (cython() if name == "cython" else _framing_py).FrontendFramer(LIMIT)
        expected, goes_on, dies = reference.frontend(stream, LIMIT)
        assert feed_frontend(framer, pieces(stream, cuts)) == (expected, goes_on)
        assert (framer.error is not None) == dies
        assert framer.pending == (0 if dies else len(stream) - len(goes_on))
        assert framer.copy_bytes == reference.copied(stream[: len(goes_on)])

    @given(stream=streams(b"QPBFCDEHSXcfddd"), cuts=cut_lists)
    def test_hands_up_data(self, stream: bytes, cuts: list[int]) -> None:
        """Both implementations alike, in each chunk; end to end it is all data, and the rest stays as it is."""
        framers = [module.FrontendFramer(LIMIT, data=True) for module in (cython(), _framing_py)]
        fed = [[framer.feed(chunk) for chunk in pieces(stream, cuts)] for framer in framers]
        assert fed[0] == fed[1]
        messages = [one for messages, _ in fed[0] for one in messages]
        expected, goes_on, _ = reference.frontend(stream, LIMIT)
        assert [one for one in messages if one[0] != DATA] == [one for one in expected if one[0] != DATA]
        assert b"".join(body for kind, body in messages if kind == DATA) == reference.contents(goes_on)
        assert b"".join(forward for _, forward in fed[0]) == goes_on
        for together, _ in fed[0]:
            kinds = [kind for kind, _ in together]
            assert not any(first == second == DATA for first, second in pairwise(kinds)), (
                "one for all that stand together"
            )

    def test_every_split(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """A conversation cut at every offset, and into single bytes, is the same conversation."""
        whole = twin.FrontendFramer(LIMIT).feed(CONVERSATION)
        assert whole == (reference.frontend(CONVERSATION, LIMIT)[0], CONVERSATION)
        for at in range(len(CONVERSATION) + 1):
            chunks = [CONVERSATION[:at], CONVERSATION[at:]]
            assert feed_frontend(twin.FrontendFramer(LIMIT), chunks) == whole
        singles = [bytes([one]) for one in CONVERSATION]
        assert feed_frontend(twin.FrontendFramer(LIMIT), singles) == whole

    def test_every_pair_of_splits_around_a_message(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """Two cuts, at every pair of offsets, with a whole message and CopyData around."""
        stream = message(b"S") + message(b"P", b"\0x\0\0\0") + message(b"d", b"copy") + message(b"E", b"\0\0\0\0\0")
        whole = twin.FrontendFramer(LIMIT).feed(stream)
        for first in range(len(stream) + 1):
            for second in range(first, len(stream) + 1):
                chunks = [stream[:first], stream[first:second], stream[second:]]
                assert feed_frontend(twin.FrontendFramer(LIMIT), chunks) == whole

    def test_whole_messages_are_not_copied(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """The fast path hands on the very object it was fed."""
        framer = twin.FrontendFramer(LIMIT)
        assert framer.feed(CONVERSATION)[1] is CONVERSATION

    def test_nothing_goes_on_before_a_message_is_whole(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """Record before forward: a Query less its last byte stays here, and the last byte frees all of it."""
        framer = twin.FrontendFramer(LIMIT)
        stream = message(b"Q", b"drop table t\0")
        assert framer.feed(stream[:-1]) == ([], b"")
        assert framer.pending == len(stream) - 1
        assert framer.feed(stream[-1:]) == ([(ord("Q"), b"drop table t\0")], stream)
        assert framer.pending == 0

    def test_copy_data_streams(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """CopyData goes on as soon as its header is whole and checked, whatever its size, and is counted."""
        framer = twin.FrontendFramer(LIMIT)
        assert framer.feed(header(b"d", LIMIT * 4)[:4]) == ([], b"")
        assert framer.feed(header(b"d", LIMIT * 4)[4:] + b"abc") == ([], header(b"d", LIMIT * 4) + b"abc")
        assert (framer.pending, framer.copy_bytes) == (0, 3)
        rest = bytes(LIMIT * 4 - 4 - 3)
        ends = [(DATA, (LIMIT * 4 - 4).to_bytes(8)), (ord("c"), b"")]
        assert framer.feed(rest + message(b"c")) == (ends, rest + message(b"c"))
        assert framer.copy_bytes == LIMIT * 4 - 4

    @pytest.mark.parametrize("kind", [bytes([one]) for one in b"QPBFCDEHSXcfd"])
    @pytest.mark.parametrize("length", [0, 3, -1, -5, -(2**31), 2**31 - 1])
    def test_hostile_lengths(self, twin: Any, kind: bytes, length: int) -> None:  # noqa: ANN401 see twin
        """A length that cannot be ends it: what came before goes on, nothing after, and no byte waits."""
        framer = twin.FrontendFramer(2**31 - 1)
        before = message(b"S")
        assert framer.feed(before + header(kind, length) + before) == ([(ord("S"), b"")], before)
        assert framer.error is not None
        assert framer.feed(before) == ([], b"")
        assert framer.pending == 0

    @pytest.mark.parametrize("kind", sorted(set(range(256)) - set(b"QPBEDCSHFdcfX")))
    def test_unknown_types(self, twin: Any, kind: int) -> None:  # noqa: ANN401 see twin
        """Any other type ends it at its first byte, a password message too."""
        framer = twin.FrontendFramer(LIMIT)
        assert framer.feed(bytes([kind])) == ([], b"")
        assert framer.error == f"invalid frontend message type {kind}"
        assert framer.pending == 0

    @pytest.mark.parametrize(
        ("kind", "cap"),
        [(bytes([one]), LIMIT) for one in b"QPBF"]
        + [(bytes([one]), 10_000) for one in b"CDEHSXcf"]
        + [(b"d", 0x3FFF_FFFF)],
    )
    def test_caps(self, twin: Any, kind: bytes, cap: int) -> None:  # noqa: ANN401 see twin
        """The length word may be its type's cap, and not one more."""
        framer = twin.FrontendFramer(LIMIT)
        framer.feed(header(kind, cap))
        assert framer.error is None
        framer = twin.FrontendFramer(LIMIT)
        framer.feed(header(kind, cap + 1))
        assert framer.error is not None

    def test_the_limit_never_exceeds_postgresqls(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """However high the limit, PostgreSQL's own stands."""
        framer = twin.FrontendFramer(2**40)
        framer.feed(header(b"Q", 0x4000_0000))
        assert framer.error is not None

    @pytest.mark.parametrize("chunk", [1, 4_095, 65_536])
    def test_memory_of_a_large_message(self, twin: Any, chunk: int) -> None:  # noqa: ANN401 see twin
        """What is held costs about its own size, in small segments too, and is joined only once."""
        size = 300_000 if chunk == 1 else 8_000_000
        framer = twin.FrontendFramer(size + 4)
        stream = message(b"B", bytes(size))
        tracemalloc.start()
        try:
            for at in range(0, size, chunk):
                framer.feed(stream[at : min(at + chunk, size)])
                assert framer.pending <= size + 5
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            messages, forward = framer.feed(stream[size:] + message(b"S"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < size * 1.2 + 200_000
        assert peak < size * 3.3 + 400_000
        assert forward == stream + message(b"S")
        assert [kind for kind, _ in messages] == list(b"BS")

    def test_empty_input_is_no_event(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """It changes nothing, within a header too."""
        framer = twin.FrontendFramer(LIMIT)
        framer.feed(b"Q")
        assert framer.feed(b"") == ([], b"")
        assert framer.pending == 1


class TestBackend:
    """Upstream to client."""

    @given(stream=streams(reference.BACKEND_WANTED + b"TDNA23n2EdddDDD"), cuts=cut_lists)
    @pytest.mark.parametrize("name", ["cython", "python"])
    def test_agrees_with_the_reference(self, name: str, stream: bytes, cuts: list[int]) -> None:
        """Any stream, in any chunks, gives the reference's messages, boundary and verdict."""
        framer = (cython() if name == "cython" else _framing_py).BackendFramer()
        expected, boundary, dies = reference.backend(stream)
        assert feed_backend(framer, pieces(stream, cuts)) == expected
        assert (framer.position, framer.boundary) == (len(stream), boundary)
        assert (framer.error is not None) == dies
        if not dies:
            assert framer.copy_bytes == reference.copied(stream)

    @given(stream=streams(reference.BACKEND_WANTED + b"TDNA23n2EdddDDD"), cuts=cut_lists)
    def test_hands_up_data(self, stream: bytes, cuts: list[int]) -> None:
        """As the other direction does."""
        framers = [module.BackendFramer(data=True) for module in (cython(), _framing_py)]
        fed = [[framer.feed(chunk) for chunk in pieces(stream, cuts)] for framer in framers]
        assert fed[0] == fed[1]
        messages = [one for messages in fed[0] for one in messages]
        expected, boundary, dies = reference.backend(stream)
        assert [one for one in messages if one[0] != DATA] == [one for one in expected if one[0] != DATA]
        data = b"".join(body for kind, body, _ in messages if kind == DATA)
        assert data == reference.contents(stream[:boundary] if dies else stream)
        for together in fed[0]:
            kinds = [kind for kind, _, _ in together]
            assert not any(first == second == DATA for first, second in pairwise(kinds)), (
                "one for all that stand together"
            )

    def test_every_split(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """Answers cut at every offset are the same answers, and the boundary is right on both sides of the cut."""
        whole = twin.BackendFramer().feed(ANSWERS)
        assert whole == reference.backend(ANSWERS)[0]
        for at in range(len(ANSWERS) + 1):
            framer = twin.BackendFramer()
            messages = framer.feed(ANSWERS[:at])
            assert framer.boundary == reference.backend(ANSWERS[:at])[1]
            assert messages + framer.feed(ANSWERS[at:]) == whole
            assert framer.boundary == framer.position == len(ANSWERS)
        singles = [bytes([one]) for one in ANSWERS]
        assert feed_backend(twin.BackendFramer(), singles) == whole

    @pytest.mark.parametrize("kind", list(b"CDdZ~"))
    @pytest.mark.parametrize("length", [0, 3, -1, -5, -(2**31), 2**31 - 1, 2**30 + 17])
    def test_hostile_lengths(self, twin: Any, kind: int, length: int) -> None:  # noqa: ANN401 see twin
        """A length that cannot be ends it, whether its header comes whole or split."""
        bad = header(bytes([kind]), length)
        for at in range(6):
            framer = twin.BackendFramer()
            messages = feed_backend(framer, [message(b"Z", b"I") + bad[:at], bad[at:] + message(b"Z", b"I")])
            assert messages == [(ord("Z"), b"I", 6)]
            assert framer.error is not None
            assert framer.boundary == 6
            assert framer.feed(message(b"Z", b"I")) == []

    @pytest.mark.parametrize("size", [framing.KEEP - 1, framing.KEEP, framing.KEEP + 1, 3 * framing.KEEP])
    def test_bodies_are_cut(self, twin: Any, size: int) -> None:  # noqa: ANN401 see twin
        """A huge ErrorResponse is handed up cut, whole or in chunks, and its end is where it truly ends."""
        stream = message(b"E", bytes(size)) + message(b"Z", b"E")
        expected = [(ord("E"), bytes(min(size, framing.KEEP)), size + 5), (ord("Z"), b"E", size + 11)]
        assert twin.BackendFramer().feed(stream) == expected
        assert feed_backend(twin.BackendFramer(), pieces(stream, list(range(0, len(stream), 1000)))) == expected

    def test_huge_rows_are_not_held(self, twin: Any) -> None:  # noqa: ANN401 see twin
        """A row of a gigabyte passes without memory."""
        framer = twin.BackendFramer()
        chunk = bytes(65_536)
        framer.feed(header(b"D", 2**30))
        tracemalloc.start()
        try:
            for _ in range(1_000):
                assert framer.feed(chunk) == []
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100_000
        assert framer.boundary == 0
        assert framer.position == 5 + 65_536_000


class TestChoice:
    """Which twin serves."""

    @pytest.mark.parametrize("forced", ["cython", "python"])
    def test_forced(self, forced: str) -> None:
        """CURFEW_FRAMER forces one."""
        if forced == "cython":
            cython()
        assert self.implementation(forced) == forced

    def test_unknown(self) -> None:
        """A word that is neither is refused, so that a test run never measures the wrong one."""
        assert "CURFEW_FRAMER" in self.implementation("rust")

    def test_both_keep_the_same(self) -> None:
        """The twins' constants are one."""
        assert cython().KEEP == _framing_py.KEEP == framing.KEEP

    @staticmethod
    def implementation(forced: str) -> str:
        """What a fresh interpreter says."""
        program = "from proxy.wire import framing; print(framing.IMPLEMENTATION)"
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "CURFEW_FRAMER": forced},
            capture_output=True,
            text=True,
            check=False,
        )
        return (run.stdout or run.stderr).strip()
