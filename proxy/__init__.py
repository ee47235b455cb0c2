"""The data plane: the lock. It admits, records, relays and ends sessions; it never imports `control`.

The hot modules are compiled where a C compiler was there at the build (pyproject.toml, `ext-modules`), and each has a
Python twin under the same tests: `proxy.wire._framing` has `_framing_py`, the others have the very source that they are
compiled from. `proxy._shortcut` has none: without it they do its work. Nor has `proxy.contract._digest`: hashlib does.
$CURFEW_FRAMER forces one or the other: `cython` or `python`.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

COMPILED = (
    "proxy.contract.chain",
    "proxy.journal",
    "proxy.leg",
    "proxy.recorder",
    "proxy.relay",
    "proxy.tls_transport",
    "proxy.wire.messages",
    "proxy.wire.owed",
    "proxy.wire.statements",
    "proxy.wire.steps",
    "proxy.wire.tracker",
    "proxy.wire.values",
)
"""The modules that are compiled from their own Python source; the .pxd beside each says what becomes C."""


class _FromSource:
    """Finds the Python source of a compiled module, which Python would else pass over."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG004 importlib's signature
        target: ModuleType | None = None,  # noqa: ARG004 importlib's signature
    ) -> importlib.machinery.ModuleSpec | None:
        """Look `name` up, as importlib.abc.MetaPathFinder."""
        if name not in COMPILED:
            return None
        source = Path(__file__).parent.joinpath(*name.split(".")[1:]).with_suffix(".py")
        return importlib.util.spec_from_file_location(name, source)


if os.environ.get("CURFEW_FRAMER") == "python":
    sys.meta_path.insert(0, _FromSource)
