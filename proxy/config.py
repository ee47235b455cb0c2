"""The proxy's configuration: `[proxy]` and `[targets]` as types, reading them, reading secrets, and showing the result.

Says what every option is called and what it is where nobody set it. Never opens a socket and never judges whether what
it names exists: that is `proxy.check`'s.
"""

import os
import select
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import IO, Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
import structlog

from proxy.contract import settings
from proxy.contract.grant import parse_network
from proxy.contract.settings import Name, Seconds, Secret, SettingsError, Text

log = structlog.get_logger(__name__)

MIB = 1024 * 1024
SECRET_BYTES = 65_536
SECRET_COMMAND_S = 10.0
UNIX_PATH_BYTES = 107
"""What an address of a unix socket has room for (unix(7)), without the NUL at its end."""
PATHS = ("./config.toml", "/etc/curfew/config.toml")
"""Where a configuration is looked for when neither `--config` nor $CURFEW_CONFIG names one."""

Count = Annotated[int, msgspec.Meta(ge=1)]
Bytes = Annotated[int, msgspec.Meta(ge=1)]


class SecretError(SettingsError):
    """A secret cannot be had. The text names where it was looked for, never what was found there."""


class Journal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[proxy.journal]`: the local log, below `state_dir`."""

    segment_bytes: Annotated[int, msgspec.Meta(ge=MIB)] = 64 * MIB
    """A file of the journal is closed and the next one begun at this size."""
    limit_bytes: Annotated[int, msgspec.Meta(ge=MIB)] = 10 * 1024 * MIB
    """All of it together. Files that control has go first; when none of them is left, no statement is forwarded."""
    retention_s: Annotated[float, msgspec.Meta(ge=0, le=315_360_000)] = 0.0
    """How long a file stays at least behind its last line, although control has it; within `limit_bytes`."""

    def __post_init__(self) -> None:
        if self.limit_bytes < 4 * self.segment_bytes:
            raise ValueError("`limit_bytes` must be at least four times `segment_bytes`")


class UnixSocket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[proxy.unix_socket]`: for the folders in `listen`. The token is asked for there too."""

    mode: Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3}\Z")] = "0660"
    """Who may connect, as the file system judges it: write permission counts (unix(7))."""
    group: str = ""
    """The group that the socket belongs to; empty for the process's own."""
    users: list[Text] = msgspec.field(default_factory=list)
    """The system users that may connect, by name or number (SO_PEERCRED); empty for all that `mode` lets."""


class ProxyProtocol(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[proxy.proxy_protocol]`: load balancers that say whom they connect for (PROXY protocol, version 2)."""

    trusted: list[Text] = msgspec.field(default_factory=list)
    """The networks they are in (CIDR). From anywhere else a header is garbage."""
    required: bool = True
    """Whether they must send a header, or may also connect without one."""

    def __post_init__(self) -> None:
        self.networks()

    def networks(self) -> list[IPv4Network | IPv6Network]:
        """`trusted`, as networks."""
        networks = []
        for text in self.trusted:
            try:
                networks.append(parse_network(text))
            except ValueError as error:
                raise ValueError(f"`trusted`: {error}; write a network as in 10.0.0.0/8 or 10.1.2.3/32") from error
        return networks


class OAuth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[proxy.oauth]`: listeners that ask for the token by OAUTHBEARER (PostgreSQL 18) and not as a password."""

    listen: list[Text] = msgspec.field(default_factory=list)
    """Where they are, as in `[proxy] listen`. TLS or a unix socket it must be, whatever `plaintext` says."""
    issuer: Annotated[str, msgspec.Meta(max_length=1_000, pattern=r"^(https://[!#-\[\]-~]+)?\Z")] = ""
    """What clients must name as `oauth_issuer`. Empty: the issuer of grants."""
    scope: Annotated[str, msgspec.Meta(max_length=500, pattern=r"^[ !#-\[\]-~]*\Z")] = ""
    """What clients are told to ask a token for (RFC 6749, 3.3); empty for nothing."""

    def __post_init__(self) -> None:
        for text in self.listen:
            parse_listen(text)


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `[proxy] tls_certificates`: for the names that stand in it."""

    certificate_file: Text
    """A certificate chain, PEM."""
    key_file: Text
    """Its private key, PEM."""


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[proxy.control]`: the control service that this proxy belongs to."""

    url: Text
    """`https://HOST[:PORT]`; plain http is taken for loopback alone."""
    ca_file: Text | None = None
    """The authority that signed control's certificate; the system's where it is not set."""
    join_token: Secret | None = None
    """Needed once: the first start registers this proxy's key with it."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("`url` must be https://HOST[:PORT]")
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("`url` must be https, except on loopback")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("`url` must be a bare https://HOST[:PORT]: no user, query or fragment")


class ProxySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[proxy]`."""

    name: Name
    """What this proxy is called at control and in every record."""
    listen: Annotated[list[Text], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["127.0.0.1:6432"]
    )
    """Where people connect: HOST:PORT, an IPv6 address in brackets, or FOLDER:PORT for a unix socket."""
    ops_listen: str = "127.0.0.1:9187"
    """Where /metrics, /livez and /readyz are served, in plain text; empty for nowhere."""
    state_dir: Text = "/var/lib/curfew/proxy"
    """The journal, this proxy's key and what it keeps of control's directives."""
    tls_certificate_file: Text
    """The certificate chain that people see, PEM."""
    tls_key_file: Text
    """Its private key, PEM."""
    tls_certificates: list[Certificate] = msgspec.field(default_factory=list)
    """Further ones, for clients that ask for one of their names (SNI)."""
    tls_renew_s: Seconds = 60.0
    """How often it is looked whether certificate files have changed; SIGHUP reads them at once."""
    tls_client_ca_file: Text | None = None
    """The authorities whose client certificates are taken; None where none is asked for."""
    tls_client_certificate: Literal["optional", "required"] = "optional"
    """Whether a client on TLS may do without, where there is `tls_client_ca_file`."""
    plaintext: Literal["never", "loopback"] = "never"
    """Whether a connection from loopback may do without TLS."""
    issuer: str = ""
    """Who signs grants (`iss`). Empty: as control says at the join."""
    audience: str = ""
    """What grants must be meant for (`aud`). Empty: as control says at the join."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    """Processes that serve. One process uses one core."""
    jwks_file: Text | None = None
    """The keys that grants are verified with, without a control service (no [proxy.control] then)."""
    auth_timeout_s: Seconds = 60.0
    """From accept to an accepted token, at most."""
    max_connections: Count = 2000
    """Sockets at once, whatever their phase."""
    max_unauthenticated: Count = 500
    """Of those, without an accepted token yet. The oldest one is dropped for a new one."""
    max_unauthenticated_per_address: Count = 100
    """As max_unauthenticated, for one source address."""
    max_sessions: Count = 1000
    """Admitted sessions at once."""
    max_message_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=1024 * MIB)] = 128 * MIB
    """The longest statement: it is held back whole until its record is written."""
    warn_before_s: list[Seconds] = msgspec.field(default_factory=lambda: [300.0, 60.0])
    """How long before a grant's end its sessions are told."""
    drain_timeout_s: Seconds = 30.0
    """How long SIGTERM waits for sessions to end by themselves."""
    stop_timeout_s: Seconds = 5.0
    """How long a stop tries to prove that a backend is gone before it says that it could not."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    unix_socket: UnixSocket = UnixSocket()
    proxy_protocol: ProxyProtocol = ProxyProtocol()
    oauth: OAuth = OAuth()
    journal: Journal = Journal()
    control: Control | None = None

    def __post_init__(self) -> None:
        for text in (*self.listen, *([self.ops_listen] if self.ops_listen else [])):
            parse_listen(text)
        if both := set(self.listen) & set(self.oauth.listen):
            raise ValueError(f"{min(both)!r} stands in `listen` and in `oauth.listen`: a listener asks in one way")
        if self.ops_listen.startswith("/"):
            raise ValueError("`ops_listen` must be HOST:PORT")
        if self.tls_client_certificate == "required" and (not self.tls_client_ca_file or self.plaintext != "never"):
            raise ValueError(
                '`tls_client_certificate` = "required" needs `tls_client_ca_file`, and `plaintext` = "never"'
            )
        if (self.jwks_file is None) == (self.control is None):
            raise ValueError("say where grants come from: either the section [proxy.control] or `jwks_file`")
        if self.jwks_file is not None and not (self.issuer and self.audience):
            raise ValueError("with `jwks_file`, `issuer` and `audience` must be set too")
        shared = (self.max_connections, self.max_unauthenticated, self.max_unauthenticated_per_address)
        if min(shared) < self.workers:
            raise ValueError(
                "each worker gets its share of `max_connections` and `max_unauthenticated...`: one at least"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that the proxy reads from its file."""

    proxy: ProxySettings
    targets: settings.Targets


def find(chosen: str | None, environment: Mapping[str, str]) -> Path:
    """The configuration file: `chosen`, else $CURFEW_CONFIG, else the first of PATHS. Raises SettingsError."""
    if named := chosen or environment.get("CURFEW_CONFIG"):
        return Path(named)
    for path in map(Path, PATHS):
        if path.exists():
            return path
    raise SettingsError(f"no configuration: give --config FILE, set CURFEW_CONFIG, or put one at {' or '.join(PATHS)}")


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration in `path`, with the environment's overrides. Raises SettingsError with every fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {_why(error)}") from error
    loaded = settings.load(text, environment, {"proxy": ProxySettings, "targets": settings.Targets})
    return Configuration(**loaded)


def parse_listen(text: str) -> tuple[str, int]:
    """HOST and PORT of `HOST:PORT` or `[IPv6]:PORT`, or a unix socket's FOLDER and PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or not (port.isascii() and port.isdecimal()) or not 0 <= int(port) <= 65535:  # noqa: PLR2004 TCP's ports
        raise ValueError(f"{text!r} is not HOST:PORT")
    if host.startswith("/"):
        if int(port) == 0 or len(os.fsencode(unix_path(host, int(port)))) > UNIX_PATH_BYTES:
            raise ValueError(f"{text!r}: a unix socket needs a port, and a path of at most {UNIX_PATH_BYTES} bytes")
        return host, int(port)
    if ":" in host and not bracketed:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, as in [::1]:6432")
    return host, int(port)


def unix_path(folder: str, port: int) -> str:
    """Where libpq looks for the socket when it is told this folder and port."""
    return f"{folder.rstrip('/')}/.s.PGSQL.{port}"


# --- secrets


def read_secret(secret: Secret | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The secret itself, without the newline at its end; None where there is none to have. Raises SecretError.

    Reads a file or runs a command, for up to SECRET_COMMAND_S: call it from a thread where that matters.
    """
    if secret is None:
        return None
    if secret.file is not None:
        return _text(_read_file(Path(secret.file)), f"the file {secret.file}")
    if secret.env is not None:
        if secret.env not in environment:
            raise SecretError(f"the environment variable {secret.env} is not set")
        return _text(environment[secret.env].encode(errors="surrogateescape"), f"the variable {secret.env}")
    assert secret.command is not None, "Secret has exactly one source"
    output = _run(secret.command)
    return _text(output.split(b"\n", 1)[0], f"the command {secret.command[0]}")


def _read_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else a fifo that nobody writes to hangs the start
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            data = file.read(SECRET_BYTES + 1) if stat.S_ISREG(mode) else None
    except OSError as error:
        raise SecretError(f"the file {path} cannot be read: {_why(error)}") from error
    if data is None:
        raise SecretError(f"{path} is not a file")
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        log.warning("secret file is open to others; chmod 600 it", path=str(path), mode=oct(mode & 0o777))
    return data


def _run(command: list[str]) -> bytes:
    """What `command` prints, up to a bound and a deadline; it gets no input, and its errors go to our own stderr."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603 the operator's own command
    except OSError as error:
        raise SecretError(f"the command {command[0]} cannot be run: {_why(error)}") from error
    with process:
        assert process.stdout is not None
        try:
            output = _read_until(process.stdout, time.monotonic() + SECRET_COMMAND_S)
            if len(output) > SECRET_BYTES:
                raise SecretError(f"the command {command[0]} prints more than {SECRET_BYTES} bytes: that is no secret")
            status = process.wait(SECRET_COMMAND_S)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise SecretError(f"the command {command[0]} took longer than {SECRET_COMMAND_S:g} s") from error
        finally:
            process.kill()
    if status != 0:
        raise SecretError(f"the command {command[0]} failed with status {status}")
    return output


def _read_until(stream: IO[bytes], deadline: float) -> bytes:
    """All of `stream`, or one byte more than a secret may have. Raises TimeoutError at the deadline."""
    output = b""
    waiting = select.poll()  # not select(), which fails on a descriptor of 1,024 or more: a busy proxy may reload
    waiting.register(stream, select.POLLIN)
    while len(output) <= SECRET_BYTES:
        if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        chunk = os.read(stream.fileno(), SECRET_BYTES)
        if not chunk:
            break
        output += chunk
    return output[: SECRET_BYTES + 1]


def _text(data: bytes, where: str) -> str:
    """`data` as text without its last newline. What makes no password is an error: PostgreSQL would only say no."""
    if len(data) > SECRET_BYTES:
        raise SecretError(f"{where} has more than {SECRET_BYTES} bytes: that is no secret")
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not data or b"\0" in data:
        raise SecretError(f"{where} {'has a zero byte in it' if data else 'is empty'}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SecretError(f"{where} is not UTF-8") from error


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"


# --- showing


def describe(configuration: Configuration) -> str:
    """The configuration in force as TOML, defaults included. Secrets show where they come from, never what they are."""
    tables = msgspec.to_builtins({"proxy": configuration.proxy, "targets": configuration.targets})
    return "\n".join(_table(tables, ())).strip() + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """The lines of one table: its own values first, then the tables in it, as TOML wants them."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    plain = {key: value for key, value in table.items() if key not in inner and value is not None}
    lines = ["", f"[{'.'.join(map(_key, path))}]"] if path and (plain or not inner) else []
    if set(plain) == {"command"}:
        plain["command"] = [plain["command"][0], *["***"] * (len(plain["command"]) - 1)]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in inner.items():
        lines += _table(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _value(key)


def _value(value: Any) -> str:  # noqa: ANN401 whatever TOML can hold
    """TOML's spelling of a value. JSON's strings are TOML's but for DEL, which TOML wants escaped."""
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(inner)}' for key, inner in value.items())} }}"
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
