"""The command `curfew`: its table of commands, and the one place where errors become words and exit codes.

Exit codes: 0 ok, 1 refused or failed, 2 usage, 130 interrupted. Never a traceback, unless CURFEW_DEBUG asks for one.
"""

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from control.client import (
    account,
    asking,
    connect,
    exporting,
    granted,
    locking,
    replaying,
    screen,
    searching,
    verifying,
    watching,
)
from control.client.errors import ClientError

FAILED = 1


class _PsqlCommand(TyperCommand):
    """Typer's command, but what stands behind `--` is psql's, and no argument of ours takes it for its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 Typer does not export its type
        """Cut the arguments at `--` before they are parsed."""
        if "--" in args:
            cut = args.index("--")
            ctx.meta[connect.PSQL_ARGUMENTS] = args[cut + 1 :]
            args = args[:cut]
        return super().parse_args(ctx, args)


def build() -> typer.Typer:
    """The command line, complete."""
    app = typer.Typer(
        name="curfew",
        help="Just-in-time access to PostgreSQL: ask, approve, connect, and see what happened.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    _add(app, account.login, account.logout, account.whoami, asking.targets)
    _add(app, asking.request, asking.requests, asking.approve, asking.deny, asking.withdraw)
    _add(app, granted.grants, granted.extend, granted.revoke, granted.token)
    app.command(cls=_PsqlCommand)(connect.connect)
    _add(app, locking.lock, locking.locks, locking.unlock)
    _add(app, watching.sessions, watching.kill, replaying.replay)
    _add(app, searching.search, exporting.export, verifying.verify)
    return app


def _add(app: typer.Typer, *commands: Callable[..., None]) -> None:
    for command in commands:
        app.command()(command)


def main() -> None:
    """Run the command; the process ends with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a terminal without UTF-8
    try:
        build()(prog_name="curfew")
    except ClientError as error:
        screen.note(f"curfew: {error}")
        if error.hint:
            screen.note(f"  {error.hint}")
        sys.exit(FAILED)
    except Exception as error:  # the command's edge: a person gets words
        if os.environ.get("CURFEW_DEBUG"):
            raise
        screen.note(f"curfew: this is a fault of curfew itself: {type(error).__name__}: {error}")
        screen.note("  CURFEW_DEBUG=1 shows where")
        sys.exit(FAILED)


def _version(*, wanted: bool) -> None:
    if wanted:
        screen.say(f"curfew {_installed()}")
        raise typer.Exit


def _installed() -> str:
    try:
        return importlib.metadata.version("pgcurfew")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda value: _version(wanted=value), is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Just-in-time access to PostgreSQL: ask, approve, connect, and see what happened."""


if __name__ == "__main__":
    main()
