"""What is said and understood of OAUTHBEARER, whatever comes (RFC 7628, sections 3.1 and 3.2.2)."""

import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.bearer import _authentication, _parse_first, challenge
from proxy.errors import ProtocolViolation

MOST_BYTES = 2_000
"""fe-connect.c: a longer authentication request is taken for a lost synchronisation."""

keys = st.text("abcXYZ", min_size=1, max_size=8).filter(lambda key: key != "auth")
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)


@given(issuer=st.text(max_size=3_000), scope=st.text(max_size=3_000))
@example(issuer="https://x.test/" + "y" * 985, scope="z" * 500)
@example(issuer="ä" * 1_000, scope="")
def test_the_challenge_is_short(issuer: str, scope: str) -> None:
    """Libpq takes it, whatever control calls itself; what matters most is always in it."""
    said = challenge(issuer, scope)
    assert len(_authentication(11, said)) - 1 <= MOST_BYTES
    assert json.loads(said)["status"] == "invalid_token"


@pytest.mark.parametrize("issuer", ["https://control.test:8443", "https://control.test:8443/"])
def test_what_the_challenge_tells(issuer: str) -> None:
    """The metadata's URL is the issuer's with the well-known end, the scope only where there is one."""
    url = "https://control.test:8443/.well-known/openid-configuration"
    assert json.loads(challenge(issuer, "")) == {"status": "invalid_token", "openid-configuration": url}
    assert json.loads(challenge("", "a b")) == {"status": "invalid_token", "scope": "a b"}


@given(before=st.lists(st.tuples(keys, values)), auth=values, after=st.lists(st.tuples(keys, values)))
def test_sound_responses(before: list[tuple[str, str]], auth: str, after: list[tuple[str, str]]) -> None:
    """The value of `auth` is found wherever it stands, and as it is."""
    pairs = [*before, ("auth", auth), *after]
    text = "n,,\x01" + "".join(f"{key}={value}\x01" for key, value in pairs) + "\x01"
    assert _parse_first(text.encode()) == auth


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"n,,", b"\x01", b"auth=", b"Bearer x", b"=", b"\0"])).map(b"".join)
)
def test_other_responses(data: bytes) -> None:
    """Anything else is a violation, and nothing worse; what is taken has one `auth` and both ends."""
    with suppress(ProtocolViolation):
        auth = _parse_first(data)
        assert data.count(b"\x01auth=") == 1
        assert data[:4] in (b"n,,\x01", b"y,,\x01")
        assert data.endswith(b"\x01\x01")
        assert b"\x01auth=" + auth.encode() + b"\x01" in data
