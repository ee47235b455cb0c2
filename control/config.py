"""control's settings: the sections `[control]` and `[targets]` of the one TOML file, and what is wrong with them.

Reads the file and looks at the paths that it names. It never creates anything, and never looks at database passwords:
control has no use for them.
"""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from proxy.contract.checkpoint import check_origin
from proxy.contract.settings import Port, SettingsError, Targets, load

DATABASE = "control.sqlite3"
KEYS = "keys"
DEFAULT_PATHS = ("config.toml", "/etc/curfew/config.toml")


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[control.log]`: the transparency log over all records."""

    origin: str = ""
    """Its name, which stands in every head; "" for the issuer's host."""
    publish: list[str] = []
    """Folders and https URLs that get its signed heads."""
    publish_s: float = 60.0


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[control]`."""

    listen: str = "127.0.0.1:8443"
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    plaintext: bool = False
    """Serve without TLS. Only where `listen` is a loopback address."""
    state_dir: str
    """The database and the signing keys."""
    issuer: str
    """The `iss` of every token: this service's own URL."""
    audience: str = "curfew"
    connect_host: str
    """Where people reach the proxy, for the connection lines that the command prints."""
    connect_port: Port = 6432
    max_duration_s: int = 28_800
    default_duration_s: int = 3_600
    request_ttl_s: int = 86_400
    """How long a request waits for a decision."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    log: LogSettings = LogSettings()

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return Path(self.state_dir) / DATABASE

    @property
    def keys(self) -> Path:
        """The key ring's folder."""
        return Path(self.state_dir) / KEYS


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """All that control reads."""

    control: ControlSettings
    targets: Targets


def find_path(given: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Which file to read: the one given, `$CURFEW_CONFIG`, or the first default that exists."""
    if named := given or environment.get("CURFEW_CONFIG"):
        return Path(named)
    return next((path for path in map(Path, DEFAULT_PATHS) if path.exists()), Path(DEFAULT_PATHS[-1]))


def read(path: Path, environment: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration in `path`. Raises SettingsError with a line for each fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"{path}: cannot read the configuration: {why}") from error
    sections = load(text, environment, {"control": ControlSettings, "targets": Targets})
    configuration = Configuration(**sections)
    if faults := _faults(configuration.control):
        raise SettingsError(*faults)
    return configuration


def listen_address(settings: ControlSettings) -> tuple[str, int]:
    """`listen` as host and port; `[::1]:8443` for IPv6. Raises ValueError."""
    host, mark, port = settings.listen.rpartition(":")
    if not mark or not host or not 0 <= int(port) <= 65_535:  # noqa: PLR2004 the port is 16 bits
        raise ValueError(settings.listen)
    return host.removeprefix("[").removesuffix("]"), int(port)


def log_origin(settings: ControlSettings) -> str:
    """The log's name."""
    try:
        return settings.log.origin or urlsplit(settings.issuer).hostname or settings.issuer
    except ValueError:  # an issuer may be any text
        return settings.issuer


def is_url(target: str) -> bool:
    """Whether heads go there over HTTP; else it is a folder."""
    return "://" in target


def effective(configuration: Configuration) -> dict[str, Any]:
    """The configuration as plain data, defaults filled in.

    It only names where secrets are; a command's arguments are hidden all the same, because people put passwords there.
    """
    plain: dict[str, Any] = msgspec.to_builtins(configuration)
    for target in plain["targets"].values():
        for login in (target["keeper"], *target["access"].values()):
            if login["password"] is not None and login["password"]["command"]:
                login["password"]["command"] = [login["password"]["command"][0], "***"]
    return plain


def _faults(settings: ControlSettings) -> list[str]:
    return [
        *_listen_faults(settings),
        *_tls_faults(settings),
        *_state_faults(settings),
        *_value_faults(settings),
        *_log_faults(settings),
    ]


def _listen_faults(settings: ControlSettings) -> list[str]:
    try:
        host, _ = listen_address(settings)
    except ValueError:
        return ['control.listen: must be "host:port", as "127.0.0.1:8443"']
    if settings.plaintext and not _loopback(host):
        return ["control.plaintext: without TLS control serves on a loopback address only; set listen or remove this"]
    return []


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls_faults(settings: ControlSettings) -> list[str]:
    if settings.plaintext:
        return []
    faults = []
    for name in ("tls_certificate_file", "tls_key_file"):
        path = getattr(settings, name)
        if path is None:
            faults.append(f"control.{name}: is missing; TLS is required unless plaintext = true on a loopback address")
        elif not os.access(path, os.R_OK):
            faults.append(f"control.{name}: cannot read {path}")
    return faults


def _state_faults(settings: ControlSettings) -> list[str]:
    folder = Path(settings.state_dir)
    if folder.is_dir():
        writable = os.access(folder, os.W_OK | os.X_OK)
        return [] if writable else [f"control.state_dir: cannot write to {folder}"]
    if folder.exists():
        return [f"control.state_dir: {folder} is not a folder"]
    parent = next(one for one in folder.absolute().parents if one.exists())
    makeable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    return [] if makeable else [f"control.state_dir: {folder} does not exist, and {parent} cannot be written to"]


def _value_faults(settings: ControlSettings) -> list[str]:
    durations = ("max_duration_s", "default_duration_s", "request_ttl_s")
    faults = [f"control.{name}: must be 1 or more" for name in durations if getattr(settings, name) < 1]
    if settings.default_duration_s > settings.max_duration_s:
        faults.append("control.default_duration_s: must not be more than max_duration_s")
    texts = ("issuer", "audience", "connect_host")
    return faults + [f"control.{name}: must not be empty" for name in texts if not getattr(settings, name)]


def _log_faults(settings: ControlSettings) -> list[str]:
    faults = []
    try:
        if settings.log.origin or settings.issuer:  # else it is told what `issuer` must be
            check_origin(log_origin(settings))
    except ValueError as error:
        faults.append(f"control.log.origin: {error}")
    if not 1 <= settings.log.publish_s <= 86_400:  # noqa: PLR2004 a day
        faults.append("control.log.publish_s: must be 1 to 86400")
    for number, target in enumerate(settings.log.publish):
        if is_url(target):
            faulty = not _safe(target)
            what = "must be an https URL without a login in it (http on a loopback address alone)"
        else:
            faulty, what = not Path(target).is_absolute(), "must be a folder's absolute path, or an https URL"
        if faulty:
            faults.append(f"control.log.publish[{number}]: {what}")
    if len(set(settings.log.publish)) != len(settings.log.publish):
        faults.append("control.log.publish: names one target twice")
    return faults


def _safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        return False
    return known and (parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname or "")))
