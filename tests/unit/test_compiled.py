"""What is compiled: the same modules everywhere they are named, and all of them where any is."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from proxy import COMPILED
from proxy.wire.framing import IMPLEMENTATION

ROOT = Path(__file__).resolve().parents[2]
FRAMER = "proxy.wire._framing"


def test_the_build_makes_what_the_package_names() -> None:
    """Each from its own source, and the framer from its own."""
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    sources = {one["name"]: one["sources"] for one in built}
    assert sources.pop(FRAMER) == ["proxy/wire/_framing.pyx"]
    assert sources == {name: [f"{name.replace('.', '/')}.py"] for name in COMPILED}
    assert all(one["optional"] for one in built)


@pytest.mark.parametrize("name", COMPILED)
def test_it_is_compiled_where_the_framer_is(name: str) -> None:
    """A module that fails to compile is left out of the build without a word, and would be slow without one, too."""
    file = import_module(name).__file__
    assert file is not None
    assert file.endswith(".so") == (IMPLEMENTATION == "cython")
