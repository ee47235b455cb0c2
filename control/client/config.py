"""Who the command speaks as and to: the stored login, and the environment that overrides it.

Owns `$XDG_CONFIG_HOME/curfew/config.json`, which holds an API key: mode 0600, written atomically, never read when
others could. Never prints or logs the key.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from control.client import private
from control.client.errors import ClientError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ADDRESS = "write for instance https://curfew.example"
NOT_LOGGED_IN = "run `curfew login --url https://CONTROL`, or set CURFEW_URL and CURFEW_API_KEY"


class Login(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The service's address, the person's key, and which authorities to trust."""

    url: str
    api_key: str
    ca_file: str | None = None
    """The authority that signed the control service's certificate; the system's where it is not set."""
    sslrootcert: str | None = None
    """For PostgreSQL's clients: the authority that signed the proxy's certificate."""

    def __repr__(self) -> str:
        """Without the key."""
        return f"Login(url={self.url!r})"


def config_path(environment: Mapping[str, str]) -> Path:
    """Where the login is stored (XDG Base Directory Specification: a relative XDG_CONFIG_HOME is to be ignored)."""
    base = environment.get("XDG_CONFIG_HOME", "")
    root = Path(base) if base.startswith("/") else Path(environment.get("HOME", "~")).expanduser() / ".config"
    return root / "curfew" / "config.json"


def stored(environment: Mapping[str, str]) -> Login | None:
    """The stored login, if there is one. Raises ClientError where it cannot be used."""
    path = config_path(environment)
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ClientError(f"{path} holds your key and others can read it", hint=f"chmod 600 {path}")
            return msgspec.json.decode(file.read(), type=Login)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClientError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ClientError(f"{path} is damaged: {error}", hint="run `curfew login` again") from error


def current(environment: Mapping[str, str]) -> Login:
    """The login in force: CURFEW_URL, CURFEW_API_KEY and CURFEW_CA_FILE before what is stored. Raises ClientError."""
    kept = stored(environment)
    url = environment.get("CURFEW_URL") or (kept.url if kept else "")
    key = environment.get("CURFEW_API_KEY", "")
    if not url:
        raise ClientError("you are not logged in", hint=NOT_LOGGED_IN)
    url = check_url(url)
    if not key and kept is not None:
        if url != kept.url:
            # The key is the other service's secret: it must not go wherever a variable points.
            raise ClientError(f"the stored key is for {kept.url}, not for {url}", hint="set CURFEW_API_KEY too")
        key = kept.api_key
    if not key:
        raise ClientError("you are not logged in", hint=NOT_LOGGED_IN)
    ca_file = environment.get("CURFEW_CA_FILE") or (kept.ca_file if kept else None)
    return Login(url=url, api_key=check_key(key), ca_file=ca_file, sslrootcert=kept.sslrootcert if kept else None)


def store(login: Login, environment: Mapping[str, str]) -> Path:
    """Write the login so that only its owner can read it, and never half of it. Raises ClientError."""
    path = config_path(environment)
    private.write(path, login)
    return path


def forget(environment: Mapping[str, str]) -> bool:
    """Remove the stored login. Returns whether there was one. Raises ClientError."""
    path = config_path(environment)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ClientError(f"cannot remove {path}: {error.strerror}") from error
    return True


def check_url(url: str) -> str:
    """The service's address, tidied. Raises ClientError: a key goes over TLS only, except to this very machine."""
    try:
        parts = urlsplit(url.strip())
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ClientError(f"{url!r} is not the address of a service: {error}", hint=ADDRESS) from error
    if not known or parts.username or parts.query or parts.fragment:
        raise ClientError(f"{url!r} is not the address of a service", hint=ADDRESS)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ClientError(f"{url} is not encrypted; your key would travel in clear", hint="use https://")
    return url.strip().rstrip("/")


def check_key(key: str) -> str:
    """The API key, without the white space around it. Raises ClientError where it cannot be one."""
    key = key.strip()
    if not key.startswith("cfk_") or not key.isascii() or not key.isprintable() or " " in key:
        raise ClientError("that is no Curfew API key (they begin with cfk_)", hint="ask an administrator for one")
    return key
