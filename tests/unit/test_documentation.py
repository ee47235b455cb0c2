"""Documentation that cannot rot: every option stands in config.example.toml with its default, and in the README."""

import re
import tomllib
from typing import Any, get_type_hints

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from control import metrics as control_metrics
from control.config import ControlSettings, LogSettings
from proxy.config import Control, Journal, OAuth, ProxyProtocol, ProxySettings, UnixSocket
from proxy.contract.settings import AccessProfile, Account, Keeper, Target, Targets, load
from proxy.metrics import Metrics
from tests.harness.options import EXAMPLE, README, ROOT, WITHOUT_DEFAULT, Option, markdown, read_example

TEXT = EXAMPLE.read_text()
OPTIONS = read_example(TEXT)
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "proxy": ProxySettings,
    "proxy.unix_socket": UnixSocket,
    "proxy.proxy_protocol": ProxyProtocol,
    "proxy.oauth": OAuth,
    "proxy.journal": Journal,
    "proxy.control": Control,
    "control": ControlSettings,
    "control.log": LogSettings,
    "targets.orders": Target,
    "targets.orders.keeper": Keeper,
    "targets.orders.access.readonly": AccessProfile,
    "targets.orders.access.readonly.account": Account,
}
TABLES = {
    "proxy.unix_socket",
    "proxy.proxy_protocol",
    "proxy.oauth",
    "proxy.journal",
    "proxy.control",
    "control.log",
    "targets.orders.keeper",
    "targets.orders.access",
    "targets.orders.access.readonly.account",
}
"""Options that are tables: the heading is how the example shows them."""
FIELDS = [
    (section, field)
    for section, kind in SECTIONS.items()
    for field in msgspec.structs.fields(kind)
    if f"{section}.{field.name}" not in TABLES
]


def shown(section: str, name: str) -> Option:
    """The option in the example."""
    found = [option for option in OPTIONS if (option.section, option.name) == (section, name)]
    assert len(found) == 1, f"config.example.toml must show [{section}] {name} once"
    return found[0]


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_every_option_is_in_the_example(section: str, field: msgspec.structs.FieldInfo) -> None:
    """Commented out with its very default, or in force where it has none."""
    option = shown(section, field.name)
    value = tomllib.loads(f"value = {option.value}")["value"]
    kind = get_type_hints(SECTIONS[section], include_extras=True)[field.name]
    default: Any = field.default
    if default is msgspec.NODEFAULT and not field.required:
        default = field.default_factory()
    if field.required or (default is None and f"{section}.{field.name}" not in WITHOUT_DEFAULT):
        assert not option.commented, f"{field.name} is to be set"
        msgspec.convert(value, kind)
    else:
        assert option.commented, f"{field.name} is its default"
        assert default is None or msgspec.convert(value, kind) == default, f"the default of {field.name} is {default!r}"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.section}.{option.name}")
def test_the_example_shows_no_other_option(option: Option) -> None:
    """What the code does not know, or knew once; and each is explained."""
    assert (option.section, option.name) in {(section, field.name) for section, field in FIELDS}
    assert option.comment, f"no comment above [{option.section}] {option.name}"


@pytest.mark.parametrize("text", [TEXT, re.sub(r"^#(?=[a-z_]+ = )", "", TEXT, flags=re.MULTILINE)])
def test_the_example_is_a_configuration(text: str) -> None:
    """Both services take it as it stands, and with all that is commented out but jwks_file (see its comment)."""
    text = text.replace('\njwks_file = "/etc/curfew/jwks.json"\n', "\n")
    loaded = load(text, {}, {"proxy": ProxySettings, "control": ControlSettings, "targets": Targets})
    assert loaded["proxy"].name == "proxy-1"


def test_the_readme_has_every_option() -> None:
    """Its table is made from the example."""
    assert markdown(OPTIONS) in README.read_text(), "run python -m tests.harness.options"


def test_the_table_shows_defaults_and_comments() -> None:
    """From the lines right above an option; a heading's comment is not its first option's."""
    text = "# Head.\n\n# Section.\n[proxy]\n# One\n# two.\n#a = 5\n# A|B\nb = 6\n#c = []\n"
    assert markdown(read_example(text)).splitlines()[3:-1] == [
        "| `proxy.a` | `5` | One two. |",
        "| `proxy.b` |  | A&#124;B |",
        "| `proxy.c` | `[]` |  |",
    ]


def exposed(registry: CollectorRegistry) -> set[str]:
    """The metrics' names as they are scraped: a counter's ends in `_total`."""
    return {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}


def listed(part: str) -> set[str]:
    """The metrics in one of the README's tables."""
    table = README.read_text().partition(f"<!-- metrics of {part} -->")[2].partition("<!-- end of metrics -->")[0]
    return set(re.findall(r"^\| `([a-z_]+)(?:\{[a-z,]+\})?` \|", table, re.MULTILINE))


def test_the_readme_has_every_metric_of_the_proxy() -> None:
    """Those that it always has, and what its parts hang in; and no other."""
    texts = [path.read_text() for path in (ROOT / "proxy").glob("*.py")]
    gauges = {name for text in texts for name in re.findall(r'\.gauge\(\s*"(\w+)"', text)}
    counters = {f"{name}_total" for text in texts for name in re.findall(r'\.counter\(\s*"(\w+)"', text)}
    assert "curfew_lease" in gauges
    assert "curfew_journal_syncs_total" in counters
    assert listed("the proxy") == exposed(Metrics().registry) | gauges | counters


def test_the_readme_has_every_metric_of_control() -> None:
    """And no other."""
    assert listed("control") == exposed(control_metrics.create().registry)


@pytest.mark.parametrize("page", ["proxy/wire/README.md"])
def test_the_map_of_the_protocol_names_what_is_there(page: str) -> None:
    """Every file that it sends a reader to; and no module of the folder is missing."""
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:proxy|tests)/[a-z_/.]+)`", text))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / page).parent.glob("[a-z]*.py")}
    assert modules - named == set()
