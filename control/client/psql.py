"""Becoming psql: the environment it is given, and the exec itself.

The token goes into PGPASSWORD and nothing of the connection onto the command line, which every user of the machine can
read. This process is replaced: psql has the terminal, the signals and the exit code to itself.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from control.client.credentials import VARIABLES
from control.client.errors import ClientError

CONFLICTING = (
    "PGSERVICE",  # a service's values are taken before the environment's
    "PGHOSTADDR",  # would lead elsewhere than PGHOST
    "PGPASSFILE",
    "PGREQUIREAUTH",  # the token goes as a password inside TLS, which these two may forbid
    "PGCHANNELBINDING",
    "PGTARGETSESSIONATTRS",
)


def environment(base: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """`base` with the connection `values` (libpq's keywords), without what would contradict them or is ours alone."""
    kept = {name: value for name, value in base.items() if name not in CONFLICTING and name != "CURFEW_API_KEY"}
    return kept | {VARIABLES[name]: value for name, value in values.items()}


def check_authority(values: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Raise ClientError where libpq would have no authority to check the proxy's certificate against.

    It looks for `~/.postgresql/root.crt` where it is told nothing (PostgreSQL 34.19.1), and its message says no more
    than that this file is missing. On a unix socket there is no TLS.
    """
    told = values.get("sslrootcert") or variables.get("PGSSLROOTCERT") or values["host"].startswith("/")
    if not told and not (Path(variables.get("HOME", "~")).expanduser() / ".postgresql" / "root.crt").is_file():
        raise ClientError(
            "nothing says which authority signed the proxy's certificate, so it could not be checked",
            hint="give --sslrootcert FILE here, or to `curfew login` once and for all",
        )


def find(variables: Mapping[str, str]) -> str:
    """Where psql is. Raises ClientError where it is not."""
    program = shutil.which("psql", path=variables.get("PATH"))
    if program is None:
        raise ClientError(
            "psql is not installed, or not in PATH",
            hint="install PostgreSQL's client, or use `curfew token` with another one",
        )
    return program


def run(program: str, arguments: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Replace this process by psql. Raises ClientError where that fails."""
    try:
        os.execve(program, ["psql", *arguments], dict(variables))  # noqa: S606 no shell is wanted
    except OSError as error:
        raise ClientError(f"cannot start {program}: {error.strerror}") from error
