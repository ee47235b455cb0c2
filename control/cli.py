"""`curfew-control`: set the service up, serve, and do what has to be done on its own machine.

What scripts need (a key, a join token) is the whole of stdout; the words around it go to stderr.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
import uvicorn

from control import logs, server
from control.config import Configuration, effective, find_path, read
from control.domain.people import Role
from control.domain.results import Failure
from control.keys import KeyRingError
from control.operations import indexing, keys, log, people, proxies, reaping
from control.services import Services, assemble
from control.store.engine import DatabaseError
from control.store.index.file import FileError
from control.store.migrate import migrate, newest, revision
from proxy.contract.settings import SettingsError

Value = TypeVar("Value")

BY = "curfew-control"
"""Who did it, in the log and the books: whoever may use this machine's state."""

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
person_app = typer.Typer(no_args_is_help=True, help="People.")
app.add_typer(person_app, name="person")

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config", help="The configuration file; else $CURFEW_CONFIG, ./config.toml, /etc/curfew/config.toml."
    ),
]
RoleOption = Annotated[list[Role], typer.Option("--role", help="May be given several times.")]


class CommandError(Exception):
    """The command cannot do what it was asked for."""


def main() -> None:
    """The command's entry point."""
    app()


@app.command()
def init(
    config: ConfigOption = None,
    admin: Annotated[str, typer.Option(help="The first admin's name.")] = "admin",
) -> None:
    """Create the database, the signing keys and the first admin, whose API key is printed."""
    with _faults_told():
        configuration = _read(config)
        settings = configuration.control
        Path(settings.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        migrate(settings.database)
        key = _run(configuration, lambda services: _first_steps(services, admin))
    typer.echo(f"initialised {settings.state_dir}; the API key of {admin}:", err=True)
    typer.echo(key)


@person_app.command("add")
def add_person(
    name: str,
    role: RoleOption,
    config: ConfigOption = None,
    full_name: Annotated[str, typer.Option(help="How others know them.")] = "",
) -> None:
    """Add somebody, and print their API key."""
    with _faults_told():
        key = _run(_initialised(config), lambda services: _added(services, name=name, full_name=full_name, roles=role))
    typer.echo(f"added {name}; their API key:", err=True)
    typer.echo(key)


@app.command("join-token")
def join_token(
    config: ConfigOption = None,
    proxy: Annotated[str | None, typer.Option(help="Only for the proxy of this name, to replace its key.")] = None,
) -> None:
    """Print a token that one proxy can join with, once, within an hour."""
    with _faults_told():
        made = _run(_initialised(config), lambda services: proxies.new_token(services, proxy=proxy, by=BY))
        if isinstance(made, Failure):
            raise CommandError(made.detail)
    typer.echo(made.value[0])


@app.command("reindex")
def reindex(config: ConfigOption = None) -> None:
    """Have the index for searches made anew from the records, by the running service or the next one."""
    with _faults_told():
        _run(_initialised(config), indexing.make_anew)
    typer.echo(
        "the index is made anew while the service runs; curfew_control_index_lag_records shows how far", err=True
    )


@app.command("reap")
def reap(
    proxy: str,
    reason: Annotated[str, typer.Option(help="Why it is sure that the proxy is gone.")],
    config: ConfigOption = None,
) -> None:
    """Have other proxies end what one has left that is gone for good; prints how many sessions that are."""
    with _faults_told():
        made = _run(_initialised(config), lambda services: reaping.order(services, proxy, by=BY, reason=reason))
        if isinstance(made, Failure):
            raise CommandError(made.detail)
    typer.echo(str(made.value))


@app.command("rotate-keys")
def rotate_keys(
    config: ConfigOption = None,
    *,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Drop the keys until now at once, and every token they signed.")
    ] = False,
) -> None:
    """Make a new signing key. A serving process takes it up by itself."""
    with _faults_told():
        key = _run(_initialised(config), lambda services: keys.rotate(services, by=BY, compromised=compromised))
    typer.echo(key.kid)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Serve the API until SIGTERM."""
    with _faults_told():
        configuration = _initialised(config)
        loop_factory = uvicorn.Config(app="", log_config=None).get_loop_factory()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(server.serve(configuration, lambda: read(find_path(config))))


@app.command()
def check(config: ConfigOption = None) -> None:
    """Print the effective configuration, or what is wrong with it (and exit with 1)."""
    with _faults_told():
        configuration = _read(config)
    typer.echo(msgspec.json.format(msgspec.json.encode(effective(configuration))).decode())


async def _first_steps(services: Services, admin: str) -> str:
    if await people.anybody(services):
        raise CommandError(f"{services.settings.database}: is initialised already")
    if not await keys.everything(services):  # there is one where an earlier try got no further
        await keys.rotate(services, by=BY)
    await log.ready(services)
    return await _added(services, name=admin, full_name="", roles=[Role.ADMIN])


async def _added(services: Services, *, name: str, full_name: str, roles: list[Role]) -> str:
    added = await people.add(services, name=name, full_name=full_name, roles=roles, by=BY)
    if isinstance(added, Failure):
        raise CommandError(added.detail)
    return added.value[1]


def _read(config: str | None) -> Configuration:
    configuration = read(find_path(config))
    logs.configure(level=configuration.control.log_level, form=configuration.control.log_format)
    return configuration


def _initialised(config: str | None) -> Configuration:
    """The configuration of a service that was set up; its schema is brought up to date."""
    configuration = _read(config)
    database = configuration.control.database
    if not database.exists():
        raise CommandError(f"{database}: does not exist; run `curfew-control init` first")
    if revision(database) != newest():
        migrate(database)
    return configuration


def _run(configuration: Configuration, operation: Callable[[Services], Awaitable[Value]]) -> Value:
    async def run() -> Value:
        services = assemble(configuration, time.time_ns)
        try:
            return await operation(services)
        finally:
            await services.store.close()

    return asyncio.run(run())


@contextmanager
def _faults_told() -> Iterator[None]:
    """Say what is wrong on stderr, a line each, and exit with 1."""
    try:
        yield
    except SettingsError as error:
        for fault in error.faults:
            typer.echo(fault, err=True)
        raise typer.Exit(1) from error
    except (DatabaseError, FileError) as error:
        typer.echo(f"the database in control.state_dir cannot be used: {error}", err=True)
        raise typer.Exit(1) from error
    except (CommandError, KeyRingError, server.ServeError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
