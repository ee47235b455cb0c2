"""The options as config.example.toml shows them, and the README's table of them.

`python -m tests.harness.options` writes that table into README.md, between its two marks.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "config.example.toml"
README = ROOT / "README.md"
BEGIN, END = "<!-- options: python -m tests.harness.options -->", "<!-- end of options -->"
WITHOUT_DEFAULT = frozenset(
    {
        "proxy.jwks_file",
        "proxy.tls_client_ca_file",
        "proxy.control.ca_file",
        "targets.orders.ca_file",
        "targets.orders.crl_file",
        "targets.orders.keeper.certificate_file",
        "targets.orders.keeper.host",
        "targets.orders.keeper.key_file",
        "targets.orders.access.readonly.certificate_file",
        "targets.orders.access.readonly.key_file",
        "targets.orders.access.readonly.idle_timeout_s",
    }
)
"""Commented out with an example for a value: not to be set by everybody."""

_HEADING = re.compile(r"^\[([a-z._]+)\]$")
_OPTION = re.compile(r"^(#?)([a-z_]+) = (.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option in the example."""

    section: str
    name: str
    value: str
    """As TOML spells it: the default, or an example."""
    commented: bool
    comment: str
    """What stands right above it."""

    @property
    def path(self) -> str:
        """The section and the name."""
        return f"{self.section}.{self.name}"

    @property
    def default(self) -> str | None:
        """The default as TOML spells it, if there is one."""
        return self.value if self.commented and self.path not in WITHOUT_DEFAULT else None


def read_example(text: str) -> list[Option]:
    """Every option that `text` shows, in its order."""
    options: list[Option] = []
    section, comment = "", ""
    for line in text.splitlines():
        if option := _OPTION.match(line):
            commented, name, value = option.groups()
            options.append(
                Option(section=section, name=name, value=value, commented=bool(commented), comment=comment.strip())
            )
        if heading := _HEADING.match(line):
            section = heading[1]
        comment = f"{comment} {line[1:].strip()}" if line.startswith("#") and not option else ""
    return options


def markdown(options: list[Option]) -> str:
    """The README's table. A target and its profile are called NAME and PROFILE there."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for option in options:
        path = option.path.replace("targets.orders", "targets.NAME").replace("access.readonly", "access.PROFILE")
        default = f"`{option.default}`" if option.default is not None else ""
        rows.append(f"| `{path}` | {default} | {option.comment.replace('|', '&#124;')} |")
    return "\n".join([BEGIN, *rows, END])


def main() -> None:
    """Write the table into README.md."""
    text = README.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md has no {BEGIN} and {END}")
    README.write_text(before + markdown(read_example(EXAMPLE.read_text())) + after)


if __name__ == "__main__":
    main()
