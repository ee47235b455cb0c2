"""How a client's program speaks with the tests that run it: lines of tab-separated fields, as the README here says."""

import select
import sys


def say(*fields: str) -> None:
    """One line on standard output, at once."""
    print("\t".join(field.replace("\n", " / ").replace("\t", " ") for field in fields), flush=True)  # noqa: T201 it speaks


def hear() -> str:
    """One line of standard input, without its end."""
    return sys.stdin.readline().rstrip("\n")


def told() -> bool:
    """Whether there is something to hear."""
    return bool(select.select([sys.stdin], [], [], 0)[0])
