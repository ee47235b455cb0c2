"""Reading the one TOML file that both services share (DESIGN.md 4.7), and `[targets]`, the section that both read.

Pure: text and environment in, a typed structure out. Unknown keys are errors with their path and a suggestion, and
`CURFEW_SECTION__KEY` variables override. Reading files and secrets is `proxy.config`'s and `control.config`'s.
"""

import difflib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from proxy.contract.grant import NAME_BYTES

ENVIRONMENT_PREFIX = "CURFEW_"
SECTIONS = ("proxy", "control", "targets", "policy")

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}\Z")]
"""Targets, profiles and proxies: lower case, so that a name has one spelling everywhere."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Texts = Annotated[list[Text], msgspec.Meta(min_length=1)]
Ports = Annotated[list[Port], msgspec.Meta(min_length=1)]
Privilege: TypeAlias = Literal["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
Identity: TypeAlias = Literal["vaulted", "ephemeral", "elevated"]
Method: TypeAlias = Literal["scram-sha-256", "md5", "password", "none"]
"""How PostgreSQL may authenticate a login, in the words of libpq's `require_auth`."""


class SettingsError(Exception):
    """The configuration cannot be used. One line per fault, each with the path of its key and what to do."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret comes from: exactly one of a file, an environment variable or a command's first output line."""

    file: Text | None = None
    env: Text | None = None
    command: Annotated[list[Text], msgspec.Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.file, self.env, self.command)) != 1:
            raise ValueError("say exactly one of `file`, `env` and `command`")


class Parameters(StrEnum):
    """What is recorded of a statement's bound values."""

    FULL = "full"
    TYPES = "types"
    NONE = "none"


CopyDataShown: TypeAlias = Literal["none", "in", "full"]


class Host(NamedTuple):
    """One server of a target: a host name, an address or the folder of a unix socket, and the port."""

    name: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether it is a unix socket: there is no TLS on it, as in libpq."""
        return self.name.startswith("/")

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[targets.NAME.access.PROFILE.account]`: the role that is made for a grant, where `identity` asks for one."""

    preset: Literal["none", "readonly", "readwrite", "schema", "ddl", "admin"] = "none"
    """A shipped set of rights; `proxy.account_rights` has the statements."""
    member_of: list[Text] = msgspec.field(default_factory=list)
    """Roles that it is made a member of, besides the preset's."""
    schemas: list[Text] = msgspec.field(default_factory=list)
    """For `schema`: whose tables. For `ddl` and `admin`: whose owners' rights; the database's owner's where empty."""
    tables: list[Text] = msgspec.field(default_factory=list)
    """For `schema`: further tables, as SCHEMA.TABLE."""
    privileges: Annotated[list[Privilege], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["SELECT"]
    )
    """For `schema`: what may be done with these tables."""
    setup_sql: list[Text] = msgspec.field(default_factory=list)
    """Run with the rights of the keeper when the account is made, and in each further database that it enters."""
    setup_file: str = ""
    """A file with more of it. Read anew each time."""
    reassign_to: str = ""
    """Who gets what the account owns in the end; the keeper's own login where empty."""
    linger_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 60.0
    """How long it stays after the grant's last session, if the grant lasts so long."""
    elevate_by: Literal["certificate", "password"] = "certificate"
    """How the proxy logs in as the person."""
    ca_certificate_file: str = ""
    """The authority that the person's short-lived certificates are signed by, PEM."""
    ca_key_file: str = ""
    """Its private key."""

    def __post_init__(self) -> None:
        if (self.preset == "schema") and not (self.schemas or self.tables):
            raise ValueError("`preset` 'schema' needs `schemas` or `tables`: which ones?")
        if self.schemas and self.preset not in ("schema", "ddl", "admin"):
            raise ValueError("`schemas` belongs to `preset` 'schema', 'ddl' or 'admin'")
        if (self.tables or self.privileges != ["SELECT"]) and self.preset != "schema":
            raise ValueError("`tables` and `privileges` belong to `preset` 'schema'")
        if wrong := [table for table in self.tables if not all(table.partition("."))]:
            raise ValueError(f"`tables`: {wrong[0]!r} is not SCHEMA.TABLE")
        for name in (*self.member_of, *self.schemas, self.reassign_to):
            if "\0" in name or len(name.encode()) > NAME_BYTES:
                raise ValueError(f"{name!r} is no PostgreSQL name: at most {NAME_BYTES} bytes")
        if any("\0" in text for text in (*self.setup_sql, *self.tables)):
            raise ValueError("`setup_sql` and `tables` must not have a zero byte")

    @property
    def gives_rights(self) -> bool:
        """Whether it is good for anything."""
        return self.preset != "none" or bool(self.member_of or self.setup_sql or self.setup_file)


class AccessProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[targets.NAME.access.PROFILE]`: a named way in."""

    description: str = ""
    identity: Identity = "vaulted"
    """Who logs in: a stored login; a role made for the grant; the person's own role, with more rights for a while."""
    user: Text | None = None
    """The stored login at PostgreSQL, where `identity` is `vaulted`; the person never sees it."""
    password: Secret | None = None
    """None where PostgreSQL asks for none (trust, or a client certificate); it must not ask, then."""
    certificate_file: Text | None = None
    """A client certificate for this login, PEM. Read anew when it has changed."""
    key_file: Text | None = None
    """Its private key."""
    parameters: Parameters = Parameters.FULL
    copy_data: CopyDataShown = "none"
    """Whether COPY's data is on record: `in`, what the client sends; `full`, what PostgreSQL sends, too. As it is."""
    replication: Literal["none", "all"] = "none"
    """Whether replication connections are allowed. PostgreSQL lets each of them read the whole server, so there is no
    half of it: what is called logical replication takes BASE_BACKUP too."""
    idle_timeout_s: Seconds | None = None
    """How long a session may be idle, with or without an open transaction; None for as long as its grant lasts."""
    account: Account = Account()

    def __post_init__(self) -> None:
        _check_pair(self.certificate_file, self.key_file)
        if self.replication != "none" and self.copy_data != "none":
            raise ValueError(
                "`copy_data` goes with no `replication`: a base backup or a stream is the whole server, which the "
                "journal cannot hold; give replication a profile of its own"
            )
        if self.identity == "vaulted":
            if self.user is None:
                raise ValueError("`user` is missing: name the stored login, or choose another `identity`")
            if self.account != Account():
                raise ValueError("`account` is for `identity` 'ephemeral' or 'elevated'; this one is 'vaulted'")
            return
        if self.user is not None or self.password is not None or self.certificate_file is not None:
            raise ValueError(
                f"`user`, `password` and `certificate_file` are a stored login's; `identity` is {self.identity!r}"
            )
        if self.replication != "none":
            raise ValueError(f"`replication` needs a stored login; `identity` is {self.identity!r}")
        if not self.account.gives_rights:
            raise ValueError("`account` gives no rights: set its `preset`, `member_of`, `setup_sql` or `setup_file`")
        minted = self.identity == "elevated" and self.account.elevate_by == "certificate"
        if minted != bool(self.account.ca_certificate_file) or minted != bool(self.account.ca_key_file):
            raise ValueError(
                "`account.ca_certificate_file` and `ca_key_file` belong to `identity` 'elevated' with `elevate_by` "
                "'certificate': set both there, and neither elsewhere"
            )

    @property
    def login(self) -> str:
        """The stored login. Only for `vaulted`."""
        assert self.user is not None, "a vaulted profile has one"
        return self.user


class Keeper(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[targets.NAME.keeper]`: the proxy's own login, which ends backends and looks whether they are gone."""

    user: Text
    password: Secret | None = None
    certificate_file: Text | None = None
    """As in an access profile."""
    key_file: Text | None = None
    database: Text = "postgres"
    host: Text | Texts | None = None
    """Where the servers themselves are, each with a keeper: for a target whose hosts are poolers or lead to several."""
    port: Port | Ports = 5432
    """Of `host`: one for all, or one for each."""

    def __post_init__(self) -> None:
        _check_pair(self.certificate_file, self.key_file)
        _hosts([] if self.host is None else self.host, self.port)


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[targets.NAME]`: a PostgreSQL server that access is granted to. The options of a connection are libpq's."""

    host: Text | Texts
    """A host name, an address, or the folder of a unix socket (starts with `/`); several are tried in their order."""
    port: Port | Ports = 5432
    """One for all hosts, or one for each."""
    target_session_attrs: Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] = "any"
    """What a session needs of a host. `read-write` and `read-only` heed the login's own settings too."""
    database: Text
    """What a bare `dbname=TARGET` means."""
    databases: Annotated[list[Text], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["*"])
    """What a request may ask for; `*` for all."""
    description: str = ""
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "verify-full"
    sslnegotiation: Literal["postgres", "direct"] = "postgres"
    """`direct`: TLS from the first byte, without SSLRequest (PostgreSQL 17 and newer)."""
    ca_file: Text | None = None
    """The authority that signed the server's certificate; the system's where it is not set."""
    crl_file: Text | None = None
    """Certificates that the authorities have revoked; with it, each authority must have a list here."""
    require_auth: Annotated[list[Method], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["scram-sha-256"]
    )
    """How the server may authenticate a login that has a password. Whoever asks otherwise gets no answer."""
    channel_binding: Literal["disable", "prefer", "require"] = "prefer"
    """SCRAM-SHA-256-PLUS: the login holds for this TLS connection alone, not for somebody in between."""
    max_protocol_version: Literal["3.0", "3.2"] = "3.2"
    """What is asked for; a server that knows less says so."""
    connect_timeout_s: Seconds = 10.0
    pooler: Literal["none", "session"] = "none"
    """What stands between: `session`, a pooler that gives each client a backend until it leaves (PgBouncer's
    `pool_mode = session`), with a pid of its own making. Pools of transactions or statements are refused."""
    backstop: bool = False
    """Whether PostgreSQL is asked, at each login, to notice by itself when the proxy's host has vanished. Off: the
    server's own settings say it better, for all logins and without a trace in the person's session."""
    lost_lease: Literal["refuse-new", "end-sessions", "run-on"] = "refuse-new"
    durability: Literal["process", "disk"] = "process"
    """What a statement's record survives before the statement goes on: the proxy's death, or the machine's."""
    finish_timeout_s: Seconds = 60.0
    """How long a running statement may go on behind the end of a grant whose end mode is `finish`."""
    show_person: bool = False
    """Put the person and the grant into `application_name` too."""
    keeper: Keeper
    access: dict[Name, AccessProfile]

    def __post_init__(self) -> None:
        _hosts(self.host, self.port)
        if self.pooler != "none" and any(profile.replication != "none" for profile in self.access.values()):
            raise ValueError("`replication` goes through no pooler: it needs a target that leads to the server itself")
        if self.pooler != "none" and self.backstop:
            raise ValueError("`backstop` goes through no pooler, which keeps its own connections to the server")
        if self.sslmode in ("allow", "prefer"):
            raise ValueError(
                f"`sslmode` {self.sslmode!r} is not taken: whoever is in the way could have clear text; "
                "say 'verify-full', 'verify-ca' or 'require' (or 'disable', for clear text on purpose)"
            )
        if self.sslmode == "disable" and self.sslnegotiation == "direct":
            raise ValueError("`sslnegotiation` 'direct' is TLS, which `sslmode` 'disable' is not")
        if self.channel_binding == "require" and (
            self.sslmode == "disable" or "scram-sha-256" not in self.require_auth
        ):
            raise ValueError("`channel_binding` 'require' needs TLS (`sslmode`) and 'scram-sha-256' in `require_auth`")
        if "password" in self.require_auth and not self.verifies_server:
            raise ValueError(
                "`require_auth` has 'password', which is sent to a server with a verified certificate alone: set "
                "`sslmode` to 'verify-full' or 'verify-ca'"
            )
        for name, profile in self.access.items():
            if self.sslmode == "disable" and profile.account.ca_key_file:
                raise ValueError(f"`access.{name}` logs in by certificate, which needs TLS (`sslmode`)")
            if self.keeper.user in profile.account.member_of:
                raise ValueError(f"`access.{name}.account.member_of` must not name the keeper")

    @property
    def makes_accounts(self) -> bool:
        """Whether a profile has roles made for its grants."""
        return any(profile.identity != "vaulted" for profile in self.access.values())

    @property
    def hosts(self) -> list[Host]:
        """Where sessions are dialled, in the order in which it is tried."""
        return _hosts(self.host, self.port)

    @property
    def servers(self) -> list[Host]:
        """Where keepers are: at the hosts, or where the servers themselves are."""
        return self.hosts if self.keeper.host is None else _hosts(self.keeper.host, self.keeper.port)

    @property
    def stored_logins(self) -> list[str]:
        """The roles of its vaulted profiles."""
        return sorted({profile.login for profile in self.access.values() if profile.identity == "vaulted"})

    @property
    def verifies_server(self) -> bool:
        """Whether a server must prove who it is by its certificate. As in libpq, `require` with a `ca_file` does."""
        return self.sslmode.startswith("verify-") or (self.sslmode == "require" and self.ca_file is not None)

    def at(self, host: Host) -> Self:
        """This target on one of its hosts alone, whatever its role."""
        return msgspec.structs.replace(self, host=host.name, port=host.port, target_session_attrs="any")


Targets: TypeAlias = dict[Name, Target]
"""`[targets]`: what both services read."""


def _hosts(names: str | list[str], port: int | list[int]) -> list[Host]:
    """Each host with its port. Raises ValueError where there are fewer or more ports than hosts."""
    names = [names] if isinstance(names, str) else names
    ports = port if isinstance(port, list) else [port]
    if len(ports) not in (1, len(names)):
        raise ValueError(f"`port` must be one for all, or one for each of the {len(names)} hosts")
    each = ports * len(names) if len(ports) == 1 else ports
    return [Host(name, number) for name, number in zip(names, each, strict=True)]


def _check_pair(certificate_file: str | None, key_file: str | None) -> None:
    if (certificate_file is None) != (key_file is None):
        raise ValueError("`certificate_file` and `key_file` belong together: set both, or neither")


def load(text: str, environment: Mapping[str, str], sections: Mapping[str, Any]) -> dict[str, Any]:
    """The named sections of the TOML `text`, with the environment's overrides, each as its type.

    Sections that are another service's are not looked into. Raises SettingsError with every fault there is.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not TOML: {error}") from error
    faults = _override(tables, environment)
    faults += [_unknown(name, SECTIONS, "") for name in tables if name not in SECTIONS]
    loaded: dict[str, Any] = {}
    for name, kind in sections.items():
        if name not in tables:
            faults.append(f"{name}: the section [{name}] is missing; config.example.toml shows it")
            continue
        found = _faults(tables[name], kind, name)
        if not found:
            loaded[name] = msgspec.convert(tables[name], kind, strict=False)
        faults += found
    if faults:
        raise SettingsError(*faults)
    return loaded


def _override(tables: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Apply `CURFEW_PROXY__JOURNAL__LIMIT_BYTES=5` and its kind, and return the faults: `__` goes one table down.

    A value that starts with `[` or `{` is a list or a table, as JSON. Variables without `__` are not settings.
    """
    faults = []
    for variable, value in sorted(environment.items()):
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if not variable.startswith(ENVIRONMENT_PREFIX) or path[1:] == []:
            continue
        if path[0] not in SECTIONS:
            faults.append(f"{variable}: {_unknown(path[0], SECTIONS, '')}")
            continue
        table = tables
        try:
            for name in path[:-1]:
                table = table.setdefault(name, {})
            table[path[-1]] = msgspec.json.decode(value) if value[:1] in ("[", "{") else value
        except (AttributeError, TypeError):
            faults.append(
                f"{variable}: {'.'.join(path[:-1])} is not a table; name a key that config.example.toml shows"
            )
        except msgspec.DecodeError as error:
            faults.append(f"{variable}: a value that starts with {value[:1]!r} must be JSON: {error}")
    return faults


def _faults(value: Any, kind: Any, path: str) -> list[str]:  # noqa: ANN401 both are whatever TOML and the types hold
    """Every fault in `value`, each with its own key's path: msgspec stops at the first, and names no dict's keys."""
    shape = _shape(kind, value)
    inner: list[str] = []
    if isinstance(value, dict) and get_origin(shape) is dict:
        key_kind, value_kind = get_args(shape)
        for name, one in value.items():
            inner += _plain(name, key_kind, f"{path}.{name}") or _faults(one, value_kind, f"{path}.{name}")
    elif isinstance(value, list) and get_origin(shape) is list:
        for index, one in enumerate(value):
            inner += _faults(one, get_args(shape)[0], f"{path}[{index}]")
    elif isinstance(value, dict) and isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        inner = _struct_faults(value, shape, path)
    # The whole is judged only when its parts are sound: for rules that span several of them.
    return inner or _plain(value, kind, path)


def _struct_faults(value: dict[str, Any], kind: type[msgspec.Struct], path: str) -> list[str]:
    hints = get_type_hints(kind, include_extras=True)
    faults = [_unknown(name, tuple(hints), path) for name in value if name not in hints]
    for field in msgspec.structs.fields(kind):
        if field.name in value:
            faults += _faults(value[field.name], hints[field.name], f"{path}.{field.name}")
        elif field.required:
            faults.append(f"{path}.{field.name}: missing; config.example.toml shows it")
    return faults


def _plain(value: Any, kind: Any, path: str) -> list[str]:  # noqa: ANN401 as _faults
    """The one fault that msgspec finds in `value`, as `proxy.port: expected ...`."""
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        text = str(error).partition(" - at `")[0]
        return [f"{path}: {text[:1].lower()}{text[1:]}"]
    return []


def _shape(kind: Any, value: Any) -> Any:  # noqa: ANN401 as _faults
    """`kind` without Annotated's constraints and without `| None`; of one thing or a list, what `value` is."""
    while get_origin(kind) is Annotated or get_origin(kind) in (Union, UnionType):
        arms = [one for one in get_args(kind) if one is not NoneType]
        lists = [one for one in arms[1:] if isinstance(value, list) and get_origin(kind) is not Annotated]
        kind = (lists or arms)[0]
    return kind


def _unknown(name: str, known: tuple[str, ...], path: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "config.example.toml shows every key"
    return f"{path}.{name}: unknown key; {hint}".lstrip(".")
