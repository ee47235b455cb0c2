"""Both framers carry a whole session: what the wire's unit tests compare byte by byte, here on a real PostgreSQL."""

import io

import pytest

from proxy.contract.record import StatementStart
from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.postgres import Cluster


@pytest.mark.parametrize("framer", ["cython", "python"])
async def test_a_session(framer: str, postgres: Cluster, make_proxy: MakeProxy, database: str) -> None:
    """Queries, prepared statements, an error, a row of 3 MB and COPY both ways, all recorded."""
    if framer == "cython":
        pytest.importorskip("proxy.wire._framing", exc_type=ImportError)
    proxy = make_proxy(postgres, database=database, environment={"CURFEW_FRAMER": framer})
    connection = await proxy.connect()
    assert await connection.fetchval("SELECT current_user") == roles.APP.user
    await connection.execute("CREATE TABLE many (id int, word text)")
    rows = [(number, f"word {number}") for number in range(20_000)]
    await connection.copy_records_to_table("many", records=rows)
    out = io.BytesIO()
    await connection.copy_from_table("many", output=out)
    assert out.getvalue().count(b"\n") == len(rows)
    with pytest.raises(Exception, match="division by zero"):
        await connection.execute("SELECT 1/0")
    assert await connection.fetchval("SELECT repeat($1, 3000000)", "x") == "x" * 3_000_000
    assert await connection.fetchval("SELECT count(*) FROM many") == len(rows)
    await connection.close()
    recorded = [one.sql for one in proxy.records() if isinstance(one, StatementStart)]
    assert "SELECT repeat($1, 3000000)" in recorded
    assert "SELECT count(*) FROM many" in recorded
