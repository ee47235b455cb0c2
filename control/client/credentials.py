"""A grant's token in the forms that PostgreSQL's clients read, each by its own quoting rules. Pure.

The rules are libpq's (PostgreSQL documentation: 34.1.1 connection strings, 34.15 environment variables, 34.16 the
password file, 34.17 the connection service file) and the shell's.
"""

import shlex
from enum import StrEnum
from urllib.parse import quote

from control.client.answers import Token
from control.client.errors import ClientError

SERVICE_LINE_BYTES = 1_022
"""libpq reads service files in lines of at most this (fe-connect.c, parseServiceFile: a buffer of 1,024)."""
SSLMODE = "verify-full"


class Format(StrEnum):
    """How `curfew token` writes the token."""

    ENV = "env"
    PGPASS = "pgpass"
    SERVICE = "service"
    URI = "uri"
    PSQL = "psql"
    RAW = "raw"


def write(token: Token, form: Format, *, database: str, sslrootcert: str | None) -> str:
    """The token in `form`, for `database` as a client names it (`TARGET` or `TARGET/DATABASE`). Raises ClientError."""
    if form is Format.RAW:
        return _plain("token", token.token)
    values = parameters(token, database=database, sslrootcert=sslrootcert)
    writers = {Format.PGPASS: _pgpass, Format.SERVICE: _service, Format.URI: _uri, Format.PSQL: _psql}
    return writers.get(form, _env)(values)


def parameters(token: Token, *, database: str, sslrootcert: str | None) -> dict[str, str]:
    """The connection as libpq's own keywords. Raises ClientError where a value could not be written down safely."""
    values = {
        "host": token.host,
        "port": str(token.port),
        "user": token.user,
        "dbname": database,
        "password": token.token,
        "sslmode": SSLMODE,
    }
    if sslrootcert:
        values["sslrootcert"] = sslrootcert
    return {name: _plain(name, value) for name, value in values.items()}


VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "password": "PGPASSWORD",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}
"""libpq's environment variables for its keywords."""


def _plain(name: str, value: str) -> str:
    """No format can carry a newline or a NUL, and no honest service sends any control character."""
    if not value or not value.isprintable():
        raise ClientError(f"the {name} is empty or has characters that no client could be given")
    return value


def _env(values: dict[str, str]) -> str:
    return "\n".join(f"export {VARIABLES[name]}={shlex.quote(value)}" for name, value in values.items())


def _pgpass(values: dict[str, str]) -> str:
    r"""`host:port:database:user:password`; `:` and `\` are escaped with `\`."""
    fields = (values[name] for name in ("host", "port", "dbname", "user", "password"))
    return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields)


def _service(values: dict[str, str]) -> str:
    """A section named after the database asked for. Values are not quoted: they reach to the end of their line."""
    section = values["dbname"]
    if "]" in section:
        raise ClientError(f"a service cannot be named {section!r}", hint="use --format env")
    lines = [f"[{section}]"]
    for name, value in values.items():
        line = f"{name}={value}"
        if value != value.strip() or len(line.encode()) > SERVICE_LINE_BYTES:
            raise ClientError(f"the {name} does not fit a service file", hint="use --format env")
        lines.append(line)
    return "\n".join(lines)


def _uri(values: dict[str, str]) -> str:
    """RFC 3986, all that is not unreserved percent-encoded; an IPv6 address stands in brackets."""
    rest = dict(values)
    host, port = rest.pop("host"), rest.pop("port")
    user, dbname, password = (quote(rest.pop(name), safe="") for name in ("user", "dbname", "password"))
    place = f"[{quote(host, safe=':')}]" if ":" in host else quote(host, safe="")
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in rest.items())
    return f"postgresql://{user}:{password}@{place}:{port}/{dbname}?{query}"


def _psql(values: dict[str, str]) -> str:
    """A line for the shell. The token is an assignment before the command, so no process list shows it."""
    public = " ".join(f"{name}={_conninfo(value)}" for name, value in values.items() if name != "password")
    return f"PGPASSWORD={shlex.quote(values['password'])} psql {shlex.quote(public)}"


def _conninfo(value: str) -> str:
    r"""A connection string's value: quoted where it has to be, `'` and `\` escaped with `\`."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'" if escaped != value or " " in value or not value else value
