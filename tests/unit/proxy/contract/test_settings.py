"""Reading configurations: what is right is taken, and every fault is named by its own key."""

from collections.abc import Callable, Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.settings import Name, Parameters, Secret, SettingsError, Target, Targets, load

GOOD = """
[targets.orders]
host = "db.test"
database = "orders"
keeper = { user = "curfew_keeper", password = { file = "/run/keeper" } }
[targets.orders.access.readonly]
user = "curfew_readonly"
"""


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table in a list, as `[[policy]]` will be."""

    name: Name
    many: list[int] = []


class Other(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stands for a service's own section."""

    size: int = 1
    names: list[str] = []
    inner: list[Inner] = []


def targets(text: str, environment: Mapping[str, str] | None = None) -> dict[str, Target]:
    """The section that both services read."""
    loaded: dict[str, Target] = load(text, environment or {}, {"targets": Targets})["targets"]
    return loaded


def faults(text: str, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What is wrong with `text`."""
    with pytest.raises(SettingsError) as caught:
        load(text, environment or {}, {"targets": Targets, "control": Other})
    assert str(caught.value) == "\n".join(caught.value.faults)
    return tuple(fault for fault in caught.value.faults if "section [" not in fault)


def test_a_good_file_is_taken() -> None:
    """With every default where nothing was said."""
    target = targets(GOOD)["orders"]
    assert (target.host, target.port, target.sslmode, target.lost_lease) == (
        "db.test",
        5432,
        "verify-full",
        "refuse-new",
    )
    assert target.databases == ["*"]
    assert target.access["readonly"].replication == "none"
    assert target.keeper.password == Secret(file="/run/keeper")
    assert target.access["readonly"].parameters is Parameters.FULL


def test_other_services_sections_are_not_looked_into() -> None:
    """One file serves two services: each reads its own, and the other's mistakes are the other's."""
    assert targets(GOOD + "[proxy]\nnonsense = 5\n[control]\nx = 1\n[[policy]]\ny = 1\n").keys() == {"orders"}


def test_a_missing_section_is_named() -> None:
    """With where to look it up."""
    with pytest.raises(SettingsError, match=r"targets: the section \[targets\] is missing"):
        targets("")


def test_what_is_not_toml_says_where() -> None:
    """The line and the column."""
    with pytest.raises(SettingsError, match=r"not TOML: .*line 2"):
        targets("[targets]\nx = \n")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("host =", "hots ="), "targets.orders.hots: unknown key; did you mean 'host'?"),
        (("host =", "zzz ="), "targets.orders.zzz: unknown key; config.example.toml shows every key"),
        (('host = "db.test"', ""), "targets.orders.host: missing; config.example.toml shows it"),
        (('host = "db.test"', 'host = ""'), "targets.orders.host: expected `str` of length >= 1"),
        (('host = "db.test"', 'host = "h"\nport = 0'), "targets.orders.port: expected `int` >= 1"),
        (('host = "db.test"', 'host = "h"\nport = 65536'), "targets.orders.port: expected `int` <= 65535"),
        (('host = "db.test"', 'host = "h"\nport = []'), "targets.orders.port: expected `array` of length >= 1"),
        (("db.test", 'h"\nsslmode = "prefre'), "targets.orders.sslmode: invalid enum value 'prefre'"),
        (
            ("db.test", 'h"\nsslmode = "prefer'),
            "targets.orders: `sslmode` 'prefer' is not taken: whoever is in the way",
        ),
        (("db.test", 'h"\nsslmode = "allow'), "targets.orders: `sslmode` 'allow' is not taken: whoever is in the way"),
        (("db.test", 'h"\nsslmode = "disable"\nsslnegotiation = "direct'), "targets.orders: `sslnegotiation` 'direct'"),
        (
            ("db.test", 'h"\nsslmode = "disable"\nchannel_binding = "require'),
            "targets.orders: `channel_binding` 'require'",
        ),
        (
            ('host = "db.test"', 'host = "h"\nchannel_binding = "require"\nrequire_auth = ["none"]'),
            "targets.orders: `chan",
        ),
        (('host = "db.test"', 'host = "h"\nsslmode = "require"\nrequire_auth = ["password"]'), "targets.orders: `requ"),
        (('host = "db.test"', 'host = "h"\nrequire_auth = []'), "targets.orders.require_auth: expected `array` of"),
        (('host = "db.test"', 'host = "h"\nrequire_auth = ["gss"]'), "targets.orders.require_auth[0]: invalid enum"),
        (('host = "db.test"', "host = []"), "targets.orders.host: expected `array` of length >= 1"),
        (('host = "db.test"', 'host = ["a", ""]'), "targets.orders.host[1]: expected `str` of length >= 1"),
        (('host = "db.test"', 'host = ["a", "b"]\nport = [1, 0]'), "targets.orders.port[1]: expected `int` >= 1"),
        (('host = "db.test"', 'host = ["a", "b"]\nport = [1, 2, 3]'), "targets.orders: `port` must be one for all, or"),
        (('host = "db.test"', 'host = "a"\nport = [1, 2]'), "targets.orders: `port` must be one for all, or one for"),
        (
            ('user = "curfew_readonly"', 'user = "x"\nkey_file = "k"'),
            "targets.orders.access.readonly: `certificate_file`",
        ),
        (("db.test", 'h"\ndatabases = ["a", 5, ""]\nx = "'), "targets.orders.databases[1]: expected `str`, got `int`"),
        (("db.test", 'h"\ndatabases = ["a", ""]\nx = "'), "targets.orders.databases[1]: expected `str` of length >= 1"),
        (("db.test", 'h"\nconnect_timeout_s = nan\nx = "'), "targets.orders.connect_timeout_s: expected `float` > 0.0"),
        (("{ file =", "{ flie ="), "targets.orders.keeper.password.flie: unknown key; did you mean 'file'?"),
        (("{ file =", '{ env = "X", file ='), "targets.orders.keeper.password: say exactly one of"),
        (('{ file = "/run/keeper" }', "{}"), "targets.orders.keeper.password: say exactly one of"),
        (('{ file = "/run/keeper" }', '"secret"'), "targets.orders.keeper.password: expected `object | null`"),
        (('{ file = "/run/keeper" }', "{ command = [] }"), "targets.orders.keeper.password.command: expected `array`"),
        (
            ("[targets.orders.access.readonly]", "[targets.orders.access.RO]"),
            "targets.orders.access.RO: expected `str`",
        ),
        (('user = "curfew_readonly"', ""), "targets.orders.access.readonly: `user` is missing"),
        (('user = "curfew_readonly"', 'user = "x"\nidentity = "own"'), "targets.orders.access.readonly.identity:"),
        (
            ('user = "curfew_readonly"', 'user = "x"\nreplication = "all"\ncopy_data = "in"'),
            "targets.orders.access.readonly: `copy_data` goes with no `replication`",
        ),
        (("targets.orders", "tragets.orders"), "tragets: unknown key; did you mean 'targets'?"),
    ],
    ids=lambda value: value[1][:40] if isinstance(value, tuple) else "",
)
def test_a_fault_is_named_by_its_key(change: tuple[str, str], fault: str) -> None:
    """The path as it is written in the file, and what is expected there."""
    changed = GOOD.replace(*change)
    assert changed != GOOD
    found = faults(changed)
    assert any(line.startswith(fault) for line in found), found


def test_a_secret_is_never_shown() -> None:
    """Somebody writes a password where its source should stand: the error does not repeat it."""
    found = faults(GOOD.replace('{ file = "/run/keeper" }', '"hunter2"'))
    assert "hunter2" not in "".join(found)


def test_every_fault_of_every_entry_is_listed() -> None:
    """One run names all there is to mend."""
    second = GOOD.replace("orders", "stock").replace('host = "db.test"', "port = 0")
    third = (
        GOOD.replace("[targets.orders", "[targets.third").replace("curfew_readonly", "").replace("database", "databse")
    )
    assert set(faults(GOOD.replace("host", "hots") + second + third)) >= {
        "targets.orders.hots: unknown key; did you mean 'host'?",
        "targets.orders.host: missing; config.example.toml shows it",
        "targets.stock.host: missing; config.example.toml shows it",
        "targets.stock.port: expected `int` >= 1",
        "targets.third.databse: unknown key; did you mean 'database'?",
        "targets.third.access.readonly.user: expected `str` of length >= 1",
    }


@pytest.mark.parametrize("name", ["Orders", "", "a b", "-a", "ä", "a/b", "a" * 64, "orders\\n"])
def test_names_have_one_spelling(name: str) -> None:
    """No upper case, no slash (which separates the database), no newline at the end, 63 bytes at the most."""
    assert any("matching regex" in fault for fault in faults(GOOD.replace("targets.orders", f'targets."{name}"')))


@pytest.mark.parametrize("name", ["a", "0", "orders-2.eu_west", "a" * 63])
def test_usual_names_are_taken(name: str) -> None:
    """Digits, dots, dashes, underscores."""
    assert targets(GOOD.replace("targets.orders", f'targets."{name}"')).keys() == {name}


def test_hosts_are_paired_with_their_ports() -> None:
    """One port for all, or one for each; a target at one of its hosts is that one alone, whatever its role."""
    many = targets(
        GOOD.replace('"db.test"', '["a", "::1", "/run"]\nport = [1, 2, 3]\ntarget_session_attrs = "primary"')
    )
    assert [str(host) for host in many["orders"].hosts] == ["a:1", "[::1]:2", "/run:3"]
    assert [host.is_socket for host in many["orders"].hosts] == [False, False, True]
    one = many["orders"].at(many["orders"].hosts[1])
    assert (one.hosts, one.target_session_attrs) == ([("::1", 2)], "any")


@pytest.mark.parametrize(
    ("options", "verifies"),
    [
        ("", True),
        ('sslmode = "verify-ca"', True),
        ('sslmode = "require"', False),
        ('sslmode = "require"\nca_file = "x"', True),
        ('sslmode = "disable"\nca_file = "x"', False),
    ],
)
def test_whether_a_server_is_verified(options: str, *, verifies: bool) -> None:
    """As in libpq, an authority makes `require` verify it."""
    assert targets(GOOD.replace("database =", options + "\ndatabase ="))["orders"].verifies_server is verifies


# --- the environment


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("CURFEW_TARGETS__ORDERS__PORT", "6000", lambda target: target.port == 6000),
        ("CURFEW_TARGETS__ORDERS__PORT", "[6000]", lambda target: target.hosts == [("db.test", 6000)]),
        ("CURFEW_TARGETS__ORDERS__HOST", "other", lambda target: target.host == "other"),
        ("CURFEW_TARGETS__ORDERS__HOST", '["a", "b"]', lambda target: target.hosts == [("a", 5432), ("b", 5432)]),
        ("CURFEW_TARGETS__ORDERS__SHOW_PERSON", "true", lambda target: target.show_person is True),
        ("CURFEW_TARGETS__ORDERS__DATABASES", '["a", "b"]', lambda target: target.databases == ["a", "b"]),
        ("CURFEW_TARGETS__ORDERS__KEEPER__USER", "k", lambda target: target.keeper.user == "k"),
        ("CURFEW_TARGETS__ORDERS__KEEPER__PASSWORD", '{"env": "K"}', lambda t: t.keeper.password == Secret(env="K")),
        ("CURFEW_TARGETS__ORDERS__DESCRIPTION", "", lambda target: target.description == ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_environment_overrides(variable: str, value: str, read: Callable[[Target], bool]) -> None:
    """Two underscores go one table down; numbers and booleans are read as such, lists and tables as JSON."""
    assert read(targets(GOOD, {variable: value})["orders"])


def test_the_environment_may_hold_everything() -> None:
    """Without a single line in the file."""
    environment = {
        "CURFEW_TARGETS__ORDERS__HOST": "h",
        "CURFEW_TARGETS__ORDERS__DATABASE": "d",
        "CURFEW_TARGETS__ORDERS__KEEPER__USER": "k",
        "CURFEW_TARGETS__ORDERS__ACCESS": "{}",
    }
    assert targets("", environment)["orders"].host == "h"


@pytest.mark.parametrize("variable", ["CURFEW_CONFIG", "CURFEW_FRAMER", "CURFEW_", "CURFEWX__Y", "PATH", "TARGETS__X"])
def test_other_variables_are_none_of_our_business(variable: str) -> None:
    """What has no two underscores, or another prefix."""
    assert targets(GOOD, {variable: "x"}) == targets(GOOD)


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("CURFEW_TARGETS__ORDERS__PORT", "many", "targets.orders.port: expected `int | array`, got `str`"),
        ("CURFEW_TARGETS__ORDERS__PROT", "1", "targets.orders.prot: unknown key; did you mean 'port'?"),
        ("CURFEW_TARGETS__ORDERS__DATABASES", "[1", "CURFEW_TARGETS__ORDERS__DATABASES: a value that starts with '['"),
        ("CURFEW_TARGETS__ORDERS__HOST__X", "1", "CURFEW_TARGETS__ORDERS__HOST__X: targets.orders.host is not a table"),
        (
            "CURFEW_TARGET__ORDERS__HOST",
            "1",
            "CURFEW_TARGET__ORDERS__HOST: target: unknown key; did you mean 'targets'?",
        ),
    ],
)
def test_a_fault_in_the_environment_is_named(variable: str, value: str, fault: str) -> None:
    """By the variable where it is the variable's, by the key otherwise."""
    found = faults(GOOD, {variable: value})
    assert any(line.startswith(fault) for line in found), found


# --- shapes


def test_lists_of_tables_are_looked_into() -> None:
    """Each by its number."""
    text = '[control]\nsize = "x"\n[[control.inner]]\nname = "A"\nmany = [1, "x"]\n[[control.inner]]\nnaem = "a"\n'
    assert set(faults(text)) == {
        "control.size: expected `int`, got `str`",
        "control.inner[0].name: expected `str` matching regex '^[a-z0-9][a-z0-9_.-]{0,62}\\\\Z'",
        "control.inner[0].many[1]: expected `int`, got `str`",
        "control.inner[1].naem: unknown key; did you mean 'name'?",
        "control.inner[1].name: missing; config.example.toml shows it",
    }


@pytest.mark.parametrize("value", ["5", '"x"', "[]", "true", "1979-05-27"])
def test_a_section_that_is_no_table_is_an_error(value: str) -> None:
    """`targets = 5` and its kind."""
    assert any(fault.startswith("targets: expected `object`") for fault in faults(f"targets = {value}"))


@given(
    st.recursive(
        st.integers() | st.text(max_size=5) | st.booleans() | st.floats() | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["orders", "host", "port", "keeper", "access", "password", "user", "database", "file"]),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
def test_no_table_breaks_it(value: object) -> None:
    """Any nesting of anything: a configuration or its faults."""
    text = msgspec.json.encode(value).decode()
    if text[0] not in "[{":
        return
    found: tuple[str, ...] = ()
    try:
        load("", {"CURFEW_TARGETS__ORDERS": text}, {"targets": Targets})
    except SettingsError as error:
        found = error.faults
    assert all(fault.startswith("targets.orders") for fault in found)
