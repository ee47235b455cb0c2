"""What the presets give, and what becomes of a profile that cannot be given."""

from pathlib import Path

import pytest

from proxy import account_reach
from proxy.account_names import account_name
from proxy.dial import UpstreamError
from tests.harness.postgres import Cluster
from tests.integration.accounts.conftest import MakeStand
from tests.integration.accounts.stand import OWNER, ephemeral, new_grant, roles_like

DENIED = b"permission denied"


async def test_readwrite(make_stand: MakeStand) -> None:
    """Rows, but no tables."""
    async with make_stand(ephemeral(preset="readwrite")) as stand:
        working = await stand.connect(new_grant())
        await working.run(
            "INSERT INTO shop.orders (id, note) VALUES (1000, 'mine'); DELETE FROM shop.orders WHERE id = 1000"
        )
        assert b"must be owner" in await working.refused("DROP TABLE shop.orders")


@pytest.mark.parametrize("named", [{"schemas": ["shop"]}, {"tables": ["shop.orders"]}])
async def test_schema_gives_no_more_than_what_the_keeper_may(
    make_stand: MakeStand, named: dict[str, list[str]]
) -> None:
    """A schema with a table that is not the keeper's to give makes no account; that table left out, all is well."""
    async with make_stand(ephemeral(preset="schema", privileges=["SELECT", "INSERT"], **named)) as stand:
        made = new_grant()
        if "schemas" in named:
            with pytest.raises(UpstreamError, match=r"permission denied|may not give"):
                await stand.connect(made)
            assert not await roles_like(stand.cluster, account_name(made))
            return
        first, other = await stand.connect(made), await stand.connect(made, "stock")
        for working in (first, other):
            await working.run("BEGIN; INSERT INTO shop.orders (note) VALUES ('mine'); ROLLBACK")  # a serial id
            assert DENIED in await working.refused("DELETE FROM shop.orders")
            assert DENIED in await working.refused("SELECT * FROM shop.secrets")


async def test_ddl(make_stand: MakeStand) -> None:
    """What the owner may: alter, drop, and make anew; in the databases of others, nothing."""
    async with make_stand(ephemeral(preset="ddl", reassign_to="")) as stand:
        made = new_grant()
        working = await stand.connect(made)
        await working.run("BEGIN; ALTER TABLE shop.secrets ADD extra int; DROP TABLE shop.secrets; ROLLBACK")
        await working.run(
            "CREATE TABLE shop.made_here (a int);"
            " CREATE FUNCTION shop.made_too() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
        working.leave()
        await stand.gone(made)
        owners = await stand.cluster.sql(
            "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'made_here' UNION ALL"
            " SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'made_too'",
            database="sales",
        )
        assert [row[0] for row in owners] == ["curfew_keeper", "curfew_keeper"]
        await stand.cluster.sql("DROP TABLE shop.made_here", database="sales")
        await stand.cluster.sql("DROP FUNCTION shop.made_too", database="sales")
        with pytest.raises(UpstreamError, match="belongs to postgres, a superuser"):
            await stand.connect(new_grant(), "postgres")


async def test_admin(make_stand: MakeStand) -> None:
    """All of it, and what monitoring needs; still no superuser, and no hand on the keeper."""
    async with make_stand(ephemeral(preset="admin")) as stand:
        working = await stand.connect(new_grant())
        assert (
            await working.value(
                "SELECT pg_has_role('pg_monitor', 'USAGE') AND NOT pg_has_role('pg_signal_backend', 'MEMBER')"
            )
            == "t"
        )
        assert await working.value(f"SELECT pg_has_role('{OWNER}', 'USAGE')") == "t"
        assert b"permission denied" in await working.refused("CREATE ROLE another")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("CREATE TABLE shop.half (a int); SELECT 1 / 0", "permission denied"),
        ("COMMENT ON ROLE {account} IS 'x'; SELECT 1 / 0", "division by zero"),
        ("GRANT pg_read_all_data TO {account}; COMMIT; SELECT 1", "not implemented|invalid transaction termination"),
        ("GRANT team TO {account}; ROLLBACK", "not implemented|invalid transaction termination"),
        ("COPY shop.orders FROM STDIN", "cannot COPY|permission denied"),
        ("SELECT pg_sleep(60)", "statement timeout"),
        ("not SQL at all", "syntax error"),
    ],
)
async def test_a_script_that_fails_leaves_nothing(
    cluster: Cluster, make_stand: MakeStand, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    """No account, no membership, nothing in the database; the person hears no more than that it failed."""
    monkeypatch.setattr(account_reach, "_STARTUP", quick())
    async with make_stand(ephemeral(setup_sql=["GRANT team TO {account}", script])) as stand:
        made = new_grant()
        with pytest.raises(UpstreamError, match=why) as caught:
            await stand.connect(made)
        assert caught.value.public == "the account for this grant cannot be made ready"
        assert caught.value.answer is None
        assert not await roles_like(cluster, account_name(made))
        assert stand.metrics.accounts["failed"] == 1


def quick() -> tuple[tuple[bytes, bytes], ...]:
    """Jobs' settings with a short statement_timeout."""
    return (*account_reach._STARTUP, (b"statement_timeout", b"300ms"))


async def test_a_file_of_statements_is_read_anew(make_stand: MakeStand, tmp_path: Path) -> None:
    """So that it is repaired without a restart; a missing one makes no account."""
    path = tmp_path / "setup.sql"
    async with make_stand(ephemeral(preset="none", setup_file=str(path))) as stand:
        with pytest.raises(UpstreamError, match=r"setup\.sql"):
            await stand.connect(new_grant())
        path.write_text("GRANT team TO {account};\n-- a comment at its end")
        working = await stand.connect(new_grant())
        assert await working.value("SELECT pg_has_role('team', 'USAGE')") == "t"
