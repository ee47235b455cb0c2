"""The commands `login`, `logout` and `whoami`."""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from control.client import config, screen
from control.client.answers import Me, read
from control.client.api import Api, from_environment
from control.client.errors import ClientError

KEY_CHARACTERS = 4_096
Json = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]


def login(
    *,
    url: Annotated[str | None, typer.Option(help="The control service's address, https://…")] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="The authority that signed the control service's certificate (PEM).")
    ] = None,
    sslrootcert: Annotated[
        str | None,
        typer.Option(help="For psql and its kin: the authority that signed the proxy's certificate, or `system`."),
    ] = None,
) -> None:
    """Store who you are: the service's address and your API key (asked for, or from $CURFEW_API_KEY)."""
    kept = _kept()
    given = url or os.environ.get("CURFEW_URL") or (kept.url if kept else "")
    if not given:
        raise ClientError("which service?", hint="curfew login --url https://CONTROL")
    address = config.check_url(given)
    if kept is not None and kept.url != address:
        kept = None  # another service has other authorities
    wanted = config.Login(
        url=address,
        api_key=config.check_key(os.environ.get("CURFEW_API_KEY") or _ask_key()),
        ca_file=_file(str(ca_file) if ca_file else os.environ.get("CURFEW_CA_FILE"))
        or (kept.ca_file if kept else None),
        sslrootcert=rootcert(sslrootcert) or (kept.sslrootcert if kept else None),
    )
    with Api(wanted) as api:
        me = read(Me, api.get("/v1/me"))
    path = config.store(wanted, os.environ)
    screen.say(f"logged in at {wanted.url} as {me.name} ({', '.join(me.roles) or 'no roles'})")
    screen.note(f"stored in {path}")


def logout() -> None:
    """Forget the stored login."""
    if config.forget(os.environ):
        screen.say("logged out; the key itself stays valid until an administrator removes it")
    else:
        screen.note("you were not logged in")


def whoami(*, json: Json = False) -> None:
    """Show who you are to the service."""
    with from_environment() as api:
        answer = api.get("/v1/me")
    if json:
        screen.dump(answer)
        return
    me = read(Me, answer)
    full = f" ({me.full_name})" if me.full_name else ""
    screen.say(f"{me.name}{full} at {api.url}, roles: {', '.join(me.roles) or 'none'}")


def rootcert(text: str | None) -> str | None:
    """The `sslrootcert` for libpq: its own word `system` (since version 16), or a file, as an absolute path."""
    return text if text == "system" else _file(text)


def _file(text: str | None) -> str | None:
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ClientError(f"there is no file {path}")
    return str(path)


def _kept() -> config.Login | None:
    """What is stored, so that a new login need not repeat it; a damaged file must not keep one from a new login."""
    try:
        return config.stored(os.environ)
    except ClientError as error:
        screen.note(f"curfew: {error}; it is replaced")
        return None


def _ask_key() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("API key (not shown): ")
    return sys.stdin.readline(KEY_CHARACTERS)
