"""The wire's hot modules twice in one process: as they were compiled, and from their very sources.

A fuzzer sees the branches of the sources alone; what the compiled ones answer is held against that. Owns how the two
are loaded beside each other, whichever of them the process itself runs on. Never changes what the process has loaded.
"""

import functools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from proxy import COMPILED

ROOT = Path(__file__).resolve().parents[2]
FAMILY = tuple(name for name in COMPILED if name.startswith("proxy.wire."))
"""They import each other: a source among compiled ones would not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """One of the two."""

    name: str
    framing: Any
    """FrontendFramer and BackendFramer."""
    tracker: Any
    steps: Any


class _Finder:
    """Finds the family's sources, or its extensions, while somebody asks for one or the other (importlib.abc)."""

    def __init__(self) -> None:
        self.compiled: bool | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Look `name` up, as importlib.abc.MetaPathFinder."""
        if self.compiled is None or name not in FAMILY:
            return None
        if not self.compiled:
            return spec_from_file_location(name, ROOT.joinpath(*name.split(".")).with_suffix(".py"))
        found = PathFinder.find_spec(name, path, target)
        if found is None or not isinstance(found.loader, ExtensionFileLoader):
            raise ModuleNotFoundError(f"{name} was not compiled here", name=name)
        return found


_finder = _Finder()
sys.meta_path.insert(0, _finder)


@functools.cache
def load() -> tuple[Twin, ...]:
    """The source and, where a C compiler was at hand at the build, the compiled one."""
    with _importing(compiled=False):
        twins = [_twin("source", "proxy.wire._framing_py")]
    try:
        with _importing(compiled=True):
            twins.append(_twin("compiled", "proxy.wire._framing"))
    except ModuleNotFoundError:
        pass
    return tuple(twins)


def _twin(name: str, framing: str) -> Twin:
    return Twin(
        name=name,
        framing=import_module(framing),
        tracker=import_module("proxy.wire.tracker"),
        steps=import_module("proxy.wire.steps"),
    )


@contextmanager
def _importing(*, compiled: bool) -> Iterator[None]:
    """Import the family anew; what was imported before is back in its place afterwards."""
    before = {name: sys.modules.pop(name, None) for name in FAMILY}
    _hide(before)
    _finder.compiled = compiled
    try:
        yield
    finally:
        _finder.compiled = None
        for name in FAMILY:
            sys.modules.pop(name, None)
        _hide(before)
        for name, module in before.items():
            if module is not None:
                sys.modules[name] = module
                setattr(sys.modules["proxy.wire"], name.rpartition(".")[2], module)


def _hide(names: dict[str, ModuleType | None]) -> None:
    """A package has its modules as attributes, which `from proxy.wire import steps` would take."""
    package = import_module("proxy.wire")
    for name in names:
        package.__dict__.pop(name.rpartition(".")[2], None)
