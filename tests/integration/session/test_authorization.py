"""Row 86 of PROTOCOL.md: a session that goes on with other rights is on record, whatever brought that."""

from proxy.contract.record import Authorization, StatementStart, decode
from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import new_grant_id
from tests.harness.wire import query

IN_A_FUNCTION = f"DO $$ BEGIN PERFORM set_config('session_authorization', '{roles.APP.user}', false); END $$"


async def test_another_role(postgres: Cluster, make_proxy: MakeProxy) -> None:
    """By a statement, and by a function whose text nobody sees; in the order in which it happened."""
    superuser = {"user": postgres.superuser, "password": {"env": "TEST_SUPERUSER"}}
    proxy = make_proxy(
        postgres,
        target={"keeper": superuser, "access": {"admin": superuser}},
        environment={"TEST_SUPERUSER": postgres.password},
    )
    grant = new_grant_id()
    async with proxy.wire(proxy.token(id=grant, profile="admin")) as wire:
        for sql in (f"SET ROLE {roles.APP.user}", "RESET ROLE", IN_A_FUNCTION):
            wire.send(query(sql))
            await wire.until("Z")
    records = [decode(line) for line in await proxy.session_of(grant)]
    told = [
        one.sql if isinstance(one, StatementStart) else (one.parameter, one.value)
        for one in records
        if isinstance(one, StatementStart | Authorization)
    ]
    assert told[:5] == [
        f"SET ROLE {roles.APP.user}",
        ("is_superuser", "off"),
        "RESET ROLE",
        ("is_superuser", "on"),
        IN_A_FUNCTION,
    ]
    assert set(told[5:]) == {("session_authorization", roles.APP.user), ("is_superuser", "off")}
