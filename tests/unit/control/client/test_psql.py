"""What psql is given: the connection by environment, nothing of it by argument."""

from control.client import psql

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
