"""What PostgreSQL is asked for as a backstop, and when it is not."""

import pytest

from proxy.backstop import SETTINGS, Backstop
from proxy.dial import UpstreamError

CHECK, *KEEPALIVE = SETTINGS


def test_off() -> None:
    """Nothing is added."""
    assert Backstop("orders", wanted=False).settings([(b"user", b"a")]) == []


@pytest.mark.parametrize(
    ("theirs", "left"),
    [
        ([], list(SETTINGS)),
        ([(b"application_name", b"client_connection_check_interval")], list(SETTINGS)),
        ([(b"Client_Connection_Check_Interval", b"0")], KEEPALIVE),
        ([(b"options", b"-c client_connection_check_interval=0")], KEEPALIVE),
        ([(b"options", b"--Client-Connection-Check-Interval=0")], KEEPALIVE),
    ],
)
def test_what_the_client_sets_is_its_own(theirs: list[tuple[bytes, bytes]], left: list[tuple[bytes, bytes]]) -> None:
    """By name or in `options`, which PostgreSQL reads first: ours would outdo it."""
    assert Backstop("orders", wanted=True).settings(theirs) == left


def test_a_server_that_does_not_take_it() -> None:
    """It is asked once: the login that failed is tried without, and so is each one after it."""
    backstop = Backstop("orders", wanted=True)
    unknown = UpstreamError("no", answer=b'Munrecognized configuration parameter "tcp_keepalives_idle"\0\0')
    assert not backstop.is_refused(UpstreamError("tcp_keepalives_idle"))
    assert not backstop.is_refused(UpstreamError("no", answer=b'Munrecognized parameter "nonsense"\0\0'))
    assert backstop.settings([]) != []
    assert backstop.is_refused(unknown)
    assert backstop.settings([]) == []
    assert not backstop.is_refused(unknown)
