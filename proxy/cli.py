"""The command `curfew-proxy`: serve, or check the configuration."""

import argparse
import asyncio
import gc
import os
import sys
from pathlib import Path

import structlog

from proxy import check, config, logs
from proxy.config import Configuration
from proxy.contract.settings import SettingsError
from proxy.identity import IdentityError
from proxy.journal import JournalError
from proxy.server import Server
from proxy.supervisor import Supervisor, SupervisorError
from proxy.worker import Worker, WorkerError, take_up


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 1 where the configuration or the machine does not allow it."""
    parser = argparse.ArgumentParser(prog="curfew-proxy", description="Just-in-time access for PostgreSQL: the proxy.")
    parser.add_argument(
        "--config", metavar="FILE", help="default: $CURFEW_CONFIG, ./config.toml, /etc/curfew/config.toml"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve connections (SIGHUP reloads, SIGTERM drains, a second one ends)")
    serve.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # what proxy.supervisor starts
    commands.add_parser("check", help="show the configuration in force, and what is wrong with it")
    chosen = parser.parse_args(arguments)
    try:
        worker = take_up() if chosen.command == "serve" and chosen.worker else None
        if worker is not None:
            return _serve(Path(worker.role.path), worker.role.configuration, worker)
        path = config.find(chosen.config, os.environ)
        configuration = config.load(path)
        return _check(configuration) if chosen.command == "check" else _serve(path, configuration)
    except (SettingsError, JournalError, IdentityError, SupervisorError, WorkerError, OSError) as error:
        for line in str(error).splitlines():
            print(f"curfew-proxy: {line}", file=sys.stderr)  # noqa: T201 a command speaks to its caller
        return 1


def _check(configuration: Configuration) -> int:
    logs.configure("warning", "console")  # what is in force goes to standard output, everything else must not
    sys.stdout.write(config.describe(configuration))
    if faults := asyncio.run(check.everything(configuration)):
        raise SettingsError(*faults)
    return 0


def _serve(path: Path, configuration: Configuration, worker: Worker | None = None) -> int:
    logs.configure(configuration.proxy.log_level, configuration.proxy.log_format)
    if worker is None and configuration.proxy.workers > 1:
        return 0 if asyncio.run(_supervise(path, configuration)) else 1
    if worker is not None:
        structlog.contextvars.bind_contextvars(worker=worker.number)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(path, configuration, worker))
    return 0


async def _supervise(path: Path, configuration: Configuration) -> bool:
    return await Supervisor(path, configuration).run()


async def _run(path: Path, configuration: Configuration, worker: Worker | None) -> None:
    server = Server(path, configuration, worker=worker)
    # What is there by now stays: the garbage collector need not walk it in the midst of everybody's sessions.
    gc.collect()
    gc.freeze()
    await server.run()


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    """Prefer uvloop's event loop; asyncio's own serves where it is not there, or where $CURFEW_LOOP says `asyncio`."""
    if os.environ.get("CURFEW_LOOP") == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415 optional
    except ImportError:
        return None
    return uvloop.Loop


if __name__ == "__main__":
    sys.exit(main())
