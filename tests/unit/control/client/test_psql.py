"""What psql is given: the connection by environment, nothing of it by argument."""

from pathlib import Path

import pytest

from control.client import psql
from control.client.errors import ClientError

VALUES = {
    "host": "proxy",
    "port": "6432",
    "user": "dba1",
    "dbname": "orders",
    "password": "TOKEN",
    "sslmode": "verify-full",
}


def test_the_connection_is_in_the_environment() -> None:
    """The variables of libpq are set, the person's own others stay."""
    made = psql.environment({"HOME": "/home/x", "PGHOST": "elsewhere", "PGCLIENTENCODING": "UTF8"}, VALUES)
    assert made["PGHOST"] == "proxy"
    assert made["PGPASSWORD"] == "TOKEN"
    assert made["PGSSLMODE"] == "verify-full"
    assert (made["HOME"], made["PGCLIENTENCODING"]) == ("/home/x", "UTF8")


def test_what_would_lead_elsewhere_is_taken_out() -> None:
    """A service or an address beside PGHOST would send the token to another server; our own key is not psql's."""
    base = {"PGSERVICE": "other", "PGHOSTADDR": "10.9.9.9", "PGREQUIREAUTH": "scram-sha-256", "CURFEW_API_KEY": "cfk_x"}
    assert set(psql.environment(base, VALUES)) == {
        "PGHOST",
        "PGPORT",
        "PGUSER",
        "PGDATABASE",
        "PGPASSWORD",
        "PGSSLMODE",
    }


def test_an_authority_has_to_be_known(tmp_path: Path) -> None:
    """Told by us or by the person, or where libpq looks by itself; a unix socket needs none."""
    home = {"HOME": str(tmp_path)}
    with pytest.raises(ClientError, match="which authority"):
        psql.check_authority(VALUES, home)
    psql.check_authority(VALUES | {"sslrootcert": "/ca.pem"}, home)
    psql.check_authority(VALUES, home | {"PGSSLROOTCERT": "/ca.pem"})
    psql.check_authority(VALUES | {"host": "/run/curfew"}, home)
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    psql.check_authority(VALUES, home)
