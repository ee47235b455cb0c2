"""The house's rules that no linter knows (DESIGN.md section 3): who imports whom, docstrings, lengths, no sleeping."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 450
TEST_FILE_LINES = 500
FUNCTION_LINES = 60
MODULES = sorted(path for part in ("proxy", "control", "deploy", "tests") for path in (ROOT / part).rglob("*.py"))
CYTHON = sorted((ROOT / "proxy").rglob("*.p[yx][xd]"))
MAY_SLEEP = "tests/harness/waiting.py"
DRIVERS = {"aiosqlite", "asyncpg", "sqlite3"}
MAY_DRIVE = ("control/store/", "control/client/rerun", "deploy/demo/", "tests/")


def name(path: Path) -> str:
    """A file's place in the checkout."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    """A file's syntax."""
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it, by their full names."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [("proxy/wire", ("proxy.wire.", "proxy.contract.")), ("proxy/contract", ("proxy.contract.",))],
)
def test_the_inner_parts_know_nothing_of_the_rest(folder: str, allowed: tuple[str, ...]) -> None:
    """The wire and the contract can be read, tested and trusted by themselves."""
    paths = [path for path in MODULES if name(path).startswith(folder)]
    ours = [(name(path), module) for path in paths for module in imports(path) if module.startswith("proxy.")]
    assert ours
    assert [(path, module) for path, module in ours if not f"{module}.".startswith(allowed)] == []


def test_only_the_store_opens_databases() -> None:
    """Control's drivers are the store's, and the proxy has none: its keeper logs in as sessions do."""
    users = {name(path) for path in MODULES if DRIVERS & {module.partition(".")[0] for module in imports(path)}}
    assert [user for user in sorted(users) if not user.startswith(MAY_DRIVE)] == []


def test_every_module_says_what_it_owns() -> None:
    """In its docstring."""
    assert [name(path) for path in MODULES if not ast.get_docstring(tree(path))] == []


def test_files_are_short() -> None:
    """One that grows beyond this wants to be two."""
    assert CYTHON
    lengths = {name(path): len(path.read_text().splitlines()) for path in [*MODULES, *CYTHON]}
    limits = {path: TEST_FILE_LINES if path.startswith("tests/") else FILE_LINES for path in lengths}
    assert [(path, lines) for path, lines in lengths.items() if lines > limits[path]] == []


def test_functions_are_short() -> None:
    """Aim at 5 to 25 lines; one near 50 wants names for its parts."""
    functions = [
        (name(path), node.name, (node.end_lineno or 0) - node.lineno + 1)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [function for function in functions if function[2] > FUNCTION_LINES] == []


def test_tests_do_not_sleep() -> None:
    """They wait for what they need (tests.harness.waiting). Who sleeps all the same says why on the very line.

    Giving way, `asyncio.sleep(0)`, is no sleeping.
    """
    calls = [
        (name(path), node.lineno, path.read_text().splitlines()[node.lineno - 1])
        for path in MODULES
        if name(path).startswith("tests/") and name(path) != MAY_SLEEP
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and re.fullmatch(r"(asyncio\.|time\.)?sleep", ast.unparse(node.func))
    ]
    assert [call for call in calls if not re.search(r"sleep\(0\)|sleep\(.*\)  # \w+ \w+", call[2])] == []
