"""What the first packets are said with, and what is heard."""

from tests.harness.proxy import Proxy
from tests.harness.wire import Message, Wire, message, startup

WHO = (("user", "dba1"), ("database", "orders"))


async def answer(proxy: Proxy, data: bytes) -> bytes:
    """Everything that is said to `data` on a plain connection, until the proxy closes it."""
    async with await Wire.plain(proxy.port) as wire:
        wire.send(data)
        return await wire.bytes_left()


async def encrypted_answer(proxy: Proxy, data: bytes) -> list[Message]:
    """The same within TLS, as whole messages."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(data)
        return await wire.rest()


def only_error(said: list[Message]) -> dict[str, str]:
    """The fields of the one ErrorResponse that was said."""
    assert [one.kind for one in said] == ["E"], [str(one) for one in said]
    assert said[0].fields["V"] == "FATAL"
    return said[0].fields


async def refused_login(proxy: Proxy, *parameters: tuple[str, str], token: str = "") -> dict[str, str]:
    """What a login with a good token is told that is refused all the same."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(startup(*parameters))
        assert (await wire.read()).kind == "R"
        wire.send(message("p", (token or proxy.token()).encode() + b"\0"))
        said = await wire.rest()
    return said[-1].fields
