"""What is compiled: the same modules everywhere they are named, and all of them where any is."""

import _hashlib
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import proxy.relay
from proxy import COMPILED
from proxy.contract.digest import sha256_hex
from proxy.wire.framing import IMPLEMENTATION

ROOT = Path(__file__).resolve().parents[2]
CYTHON = {
    "proxy.contract._digest": "proxy/contract/_digest.pyx",
    "proxy.wire._framing": "proxy/wire/_framing.pyx",
    "proxy._shortcut": "proxy/_shortcut.pyx",
}


def test_the_build_makes_what_the_package_names() -> None:
    """Each from its own source, and what is written in Cython from that."""
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    sources = {one["name"]: one["sources"] for one in built}
    from_python = {name: [f"{name.replace('.', '/')}.py"] for name in COMPILED}
    assert sources == from_python | {name: [source] for name, source in CYTHON.items()}
    assert all(one["optional"] for one in built)


@pytest.mark.parametrize("name", COMPILED)
def test_it_is_compiled_where_the_framer_is(name: str) -> None:
    """A module that fails to compile is left out of the build without a word, and would be slow without one, too."""
    file = import_module(name).__file__
    assert file is not None
    assert file.endswith(".so") == (IMPLEMENTATION == "cython")


def test_the_shortcut_is_used_where_it_can_be() -> None:
    """A relay would do without it, and not say a word."""
    assert (proxy.relay.make_shortcut.__name__ == "Shortcut") == (IMPLEMENTATION == "cython")


@pytest.mark.skipif(not hasattr(_hashlib, "__file__"), reason="hashlib is a part of Python itself here")
def test_the_digest_is_used_where_it_can_be() -> None:
    """A chain would do without it, too."""
    assert (sha256_hex.__module__ == "proxy.contract._digest") == (IMPLEMENTATION == "cython")
