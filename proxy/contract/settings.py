"""Reading the one TOML file that both services share (DESIGN.md 4.7), and `[targets]`, the section that both read.

Pure: text and environment in, a typed structure out. Unknown keys are errors with their path and a suggestion, and
`CURFEW_SECTION__KEY` variables override. Reading files and secrets is `proxy.config`'s and `control.config`'s.
"""

import difflib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import msgspec

ENVIRONMENT_PREFIX = "CURFEW_"
SECTIONS = ("proxy", "control", "targets", "policy")

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
"""Targets, profiles and proxies: lower case, so that a name has one spelling everywhere."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

Section = TypeVar("Section")


class SettingsError(Exception):
    """The configuration cannot be used. One line per fault, each with the path of its key and what to do."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret comes from: exactly one of a file, an environment variable or a command's first output line."""

    file: str | None = None
    env: str | None = None
    command: list[str] | None = None


class Parameters(StrEnum):
    """What is recorded of a statement's bound values."""

    FULL = "full"
    TYPES = "types"
    NONE = "none"


class AccessProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[targets.NAME.access.PROFILE]`: a named way in."""

    description: str = ""
    identity: Literal["vaulted"] = "vaulted"
    user: str
    """The stored login at PostgreSQL; the person never sees it."""
    password: Secret | None = None
    """None where PostgreSQL asks for none (trust, or a client certificate)."""
    parameters: Parameters = Parameters.FULL


class Keeper(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[targets.NAME.keeper]`: the proxy's own login, which ends backends and looks whether they are gone."""

    user: str
    password: Secret | None = None
    database: str = "postgres"


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[targets.NAME]`: a PostgreSQL server that access is granted to."""

    host: str
    """A host name, an address, or the folder of a unix socket (starts with `/`)."""
    port: Port = 5432
    database: str
    """What a bare `dbname=TARGET` means."""
    databases: list[str] = msgspec.field(default_factory=lambda: ["*"])
    """What a request may ask for; `*` for all."""
    description: str = ""
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"] = "verify-full"
    ca_file: str | None = None
    """The authority that signed the server's certificate; the system's where it is not set."""
    connect_timeout_s: Seconds = 10.0
    lost_lease: Literal["refuse-new", "end-sessions", "run-on"] = "refuse-new"
    show_person: bool = False
    """Put the person and the grant into `application_name` too."""
    keeper: Keeper
    access: dict[Name, AccessProfile]


def load(text: str, environment: Mapping[str, str], sections: Mapping[str, type[Any]]) -> dict[str, Any]:
    """The named sections of the TOML `text`, with the environment's overrides, each as its type.

    Sections that are another service's are not looked into. Raises SettingsError.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not TOML: {error}") from error
    faults = [_unknown(name, SECTIONS, "") for name in tables if name not in SECTIONS]
    _override(tables, environment)
    loaded: dict[str, Any] = {}
    for name, kind in sections.items():
        if name not in tables:
            faults.append(f"{name}: the section [{name}] is missing; config.example.toml shows it")
            continue
        faults += _unknown_keys(tables[name], kind, name)
        try:
            loaded[name] = msgspec.convert(tables[name], kind, strict=False)
        except msgspec.ValidationError as error:
            if not faults:
                faults.append(_located(error, name))
    if faults:
        raise SettingsError(*faults)
    return loaded


def _override(tables: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Apply `CURFEW_PROXY__LIMITS__SESSIONS=5` and its kind: `__` goes one table down, a list is TOML or JSON text."""
    for variable, value in environment.items():
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if not variable.startswith(ENVIRONMENT_PREFIX) or len(path) < 2 or path[0] not in SECTIONS:  # noqa: PLR2004
            continue
        table = tables
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = msgspec.json.decode(value) if value[:1] in "[{" and value else value


def _unknown_keys(value: Any, kind: Any, path: str) -> list[str]:  # noqa: ANN401 both are whatever TOML and the types hold
    """Find keys that no field has, at any depth, so that one run names them all."""
    arguments = getattr(kind, "__args__", ())
    if isinstance(value, dict) and arguments and getattr(kind, "__origin__", None) is dict:
        return [
            fault for name, inner in value.items() for fault in _unknown_keys(inner, arguments[1], f"{path}.{name}")
        ]
    if isinstance(value, list) and arguments and getattr(kind, "__origin__", None) is list:
        return [fault for i, inner in enumerate(value) for fault in _unknown_keys(inner, arguments[0], f"{path}[{i}]")]
    structs = [one for one in (kind, *arguments) if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    if not isinstance(value, dict) or not structs:
        return []
    hints = get_type_hints(structs[0])
    faults = [_unknown(name, tuple(hints), path) for name in value if name not in hints]
    for name, inner in value.items():
        if name in hints:
            faults += _unknown_keys(inner, hints[name], f"{path}.{name}")
    return faults


def _unknown(name: str, known: tuple[str, ...], path: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "config.example.toml shows every key"
    return f"{path}.{name}: unknown key; {hint}".lstrip(".")


def _located(error: msgspec.ValidationError, section: str) -> str:
    """`Expected `int`, got `str` - at `$.port`` becomes `proxy.port: expected ...`."""
    text, mark, where = str(error).partition(" - at `$")
    path = where.rstrip("`") if mark else ""
    return f"{section}{path}: {text[:1].lower()}{text[1:]}"
