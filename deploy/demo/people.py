"""The demo's people at their shells: each has a login of their own, and does everything with the `curfew` command."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.processes import run

PROGRAMS = Path(sys.executable).parent
"""Where the environment has `curfew`, `curfew-control` and `curfew-proxy`."""
CURFEW = PROGRAMS / "curfew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an API key. `home` holds their login once they have logged in."""

    name: str
    home: Path
    api_key: str = field(repr=False)

    @property
    def prefix(self) -> str:
        """What makes a command line theirs, in any shell."""
        return " ".join([*(f"{name}={value}" for name, value in self._environment.items()), str(CURFEW)])

    @property
    def _environment(self) -> dict[str, str]:
        """Where their login is, and what they have seen of the log."""
        return {"XDG_CONFIG_HOME": str(self.home), "XDG_STATE_HOME": str(self.home)}

    def log_in(self, url: str, authority: Path) -> None:
        """Store who they are, as `curfew login` does."""
        self._run(
            "login", "--url", url, "--ca-file", str(authority), "--sslrootcert", str(authority), text=self.api_key
        )

    def curfew(self, *arguments: str) -> str:
        """What the command prints. AssertionError where it fails."""
        return self._done(*arguments)[0]

    def told(self, *arguments: str) -> str:
        """The same, with what it says besides on stderr."""
        return "".join(self._done(*arguments))

    def refused(self, *arguments: str) -> str:
        """What the command says where it has to fail. AssertionError where it does not."""
        code, out, err = self._run(*arguments)
        assert code == 1, f"{self.name}: curfew {' '.join(arguments)} should have failed, but gave {code}:\n{out}{err}"
        return out + err

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """The items of a listing."""
        items: list[dict[str, Any]] = json.loads(self.curfew(*arguments, "--json"))["items"]
        return items

    def _done(self, *arguments: str) -> tuple[str, str]:
        code, out, err = self._run(*arguments)
        assert code == 0, f"{self.name}: curfew {' '.join(arguments)} gave {code}:\n{out}{err}"
        return out, err

    def _run(self, *arguments: str, text: str = "") -> tuple[int, str, str]:
        done = run([CURFEW, *arguments], environment=self._environment, text=text, check=False)
        return done.returncode, done.stdout, done.stderr
