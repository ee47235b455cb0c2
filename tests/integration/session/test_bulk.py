"""Much data in both directions, over TLS on both legs, on both event loops: every byte arrives, and none is held up."""

import asyncio
import hashlib
from io import BytesIO

import pytest

from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy

ROW = b"x" * 999 + b"\n"
ROWS = 30_000
WITHIN_S = 60


async def there_and_back(proxy: Proxy) -> tuple[str, str]:
    """COPY 30 MB in and out again; the digests of what went and of what came."""
    connection = await proxy.connect()
    try:
        async with asyncio.timeout(WITHIN_S):
            await connection.execute("CREATE TEMP TABLE bulk (line text)")
            await connection.copy_to_table("bulk", source=BytesIO(ROW * ROWS))
            came = BytesIO()
            await connection.copy_from_table("bulk", output=came)
    finally:
        await connection.close()
    return hashlib.sha256(ROW * ROWS).hexdigest(), hashlib.sha256(came.getvalue()).hexdigest()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_copy_over_tls(postgres: Cluster, make_proxy: MakeProxy, loop: str) -> None:
    """A write limit of 0 made uvloop's TLS pause for ever: the copy out never ended."""
    proxy = make_proxy(postgres, environment={"CURFEW_LOOP": loop})
    went, came = await there_and_back(proxy)
    assert went == came
