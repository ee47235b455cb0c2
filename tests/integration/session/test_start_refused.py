"""What PostgreSQL says to startup parameters comes to the client as it would come from PostgreSQL itself."""

import pytest

from tests.harness.proxy import Proxy
from tests.harness.wire import Message, Wire, message, startup

WHO = (("user", "dba1"), ("database", "orders"))


async def start(proxy: Proxy, *parameters: tuple[str, str]) -> list[Message]:
    """All that is said to a login with these parameters."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(startup(*WHO, *parameters) + message("p", proxy.token().encode() + b"\0"))
        return await wire.rest()


@pytest.mark.parametrize(
    ("parameter", "sqlstate"),
    [
        (("no_such_setting", "1"), "42704"),
        (("work_mem", "lots"), "22023"),
        (("log_statement", "all"), "42501"),
        (("database", "orders/nodb"), "3D000"),
    ],
)
async def test_it_comes_as_postgresql_says_it(proxy: Proxy, parameter: tuple[str, str], sqlstate: str) -> None:
    """Behind AuthenticationOk, with every field: it was told without one, and with a hint that the token is fine."""
    said = await start(proxy, parameter)
    assert [one.kind for one in said] == ["R", "R", "E"]
    assert said[1].body == bytes(4)
    fields = said[2].fields
    assert (fields["V"], fields["C"]) == ("FATAL", sqlstate)
    assert "R" in fields
    assert "token" not in fields.get("H", "")


async def test_a_packet_that_grows_too_long(proxy: Proxy) -> None:
    """Ours behind it, PostgreSQL would close without a word: it was told that the database could not be reached."""
    fitting, longest = 9_700, 9_940
    said = await start(proxy, ("a.b", "x" * fitting), ("no_such_setting", "1"))
    assert said[-1].fields["C"] == "42704"
    said = await start(proxy, ("a.b", "x" * longest))
    assert [one.kind for one in said] == ["R", "E"]
    assert (said[1].fields["V"], said[1].fields["C"]) == ("FATAL", "08P01")
    assert "longer than PostgreSQL reads" in said[1].fields["D"]


async def test_its_hint_comes_along(proxy: Proxy) -> None:
    """PostgreSQL knows which units there are."""
    assert "Valid units" in (await start(proxy, ("work_mem", "1 parsec")))[2].fields["H"]
