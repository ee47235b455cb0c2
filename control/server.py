"""Serving: one uvicorn server with TLS, from the socket to the last response.

uvicorn's own `run` ends streams that have no end by waiting for them. Here the signal goes to the services first, so
that streams and waiting requests end by themselves, and to uvicorn then.
"""

import asyncio
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import structlog
import uvicorn

from control.app import create_app
from control.config import Configuration, ControlSettings, listen_address
from control.connections import Connection, Reaper, hang_up
from control.operations import indexing, publishing, reaping
from control.operations.keys import current_key
from control.operations.log import follow, ready
from control.services import Services, assemble
from control.tasks import spawn
from proxy.contract.settings import SettingsError

GRACE_S = 10
"""How long requests may take to end. What is left then is cancelled."""
CONNECTIONS = 4_000
"""Beyond so many uvicorn answers 503; silent ones go much earlier (see `connections`)."""
BACKLOG = 256
COLLECT_AT = 50_000
"""New objects until the garbage collector looks through them. A batch of records is some ten thousand that are all in
use: at its usual 700 it would go through them again and again, for as long as it takes to decode them."""

log = structlog.get_logger(__name__)


class ServeError(Exception):
    """The service cannot start. Says why, and what to do."""


async def serve(configuration: Configuration, reread: Callable[[], Configuration]) -> None:
    """Serve until SIGTERM or SIGINT; a second one means now. SIGHUP takes up what `reread` gives."""
    _raise_descriptor_limit()
    settings = configuration.control
    listener = _listen(settings)
    services = assemble(configuration, time.time_ns)
    try:
        async with services.store.read() as tx:
            services.ring.load(await current_key(tx, services.clock()))
        await ready(services)
        server = _server(services)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, partial(_stop, server, services))
        loop.add_signal_handler(signal.SIGHUP, partial(_reload, server, services, reread))
        _collect_rarely()
        await _start(server, listener)  # Whoever is answered may send a signal.
        _announce(settings, listener)
        state = server.server_state
        background = [
            spawn("hang up", Reaper(cast("set[Connection]", state.connections)).run()),
            spawn("silent proxies", reaping.watch(services)),
            *publishing.start(services),
        ]
        following = [spawn("log", follow(services)), spawn("index", indexing.follow(services))]
        await server.main_loop()
        for task in background:
            task.cancel()
        _notify("STOPPING=1")
        hanging_up = spawn("hang up", hang_up(cast("set[Connection]", state.connections), state.tasks))
        await server.shutdown(sockets=[listener])
        hanging_up.cancel()
        # These are in a transaction more often than not, and end by themselves between two: who is cancelled inside of
        # one can leave its connection's thread waiting for ever.
        _, late = await asyncio.wait(following, timeout=GRACE_S)
        for task in late:
            task.cancel()
        await asyncio.wait([*background, *following], timeout=GRACE_S)
    finally:
        listener.close()
        await services.store.merge()
        await services.store.close()
    log.info("stopped")


def _listen(settings: ControlSettings) -> socket.socket:
    host, port = listen_address(settings)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise ServeError(f"control.listen: cannot listen on {settings.listen}: {error.strerror}") from error


def _server(services: Services) -> uvicorn.Server:
    settings = services.settings
    tls = not settings.plaintext
    config = uvicorn.Config(
        create_app(services),
        ssl_certfile=settings.tls_certificate_file if tls else None,
        ssl_keyfile=settings.tls_key_file if tls else None,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # The address that failures are counted by is the socket's: a header could say anything.
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError too
        raise ServeError(f"control.tls_certificate_file, control.tls_key_file: cannot be used: {error}") from error
    return uvicorn.Server(config)


async def _start(server: uvicorn.Server, listener: socket.socket) -> None:
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets=[listener])


def _reload(server: uvicorn.Server, services: Services, reread: Callable[[], Configuration]) -> None:
    """Take up the targets, and the certificate that is in the files now. All else needs a restart, and says so."""
    try:
        configuration = reread()
        if (context := server.config.ssl) is not None:
            settings = services.settings
            context.load_cert_chain(str(settings.tls_certificate_file), settings.tls_key_file)
    except (SettingsError, OSError) as error:  # ssl.SSLError too
        log.error("not reloaded: the configuration until now stays in force", why=str(error))  # noqa: TRY400 as it says
        return
    services.targets.clear()
    services.targets.update(configuration.targets)
    log.info("reloaded", targets=sorted(services.targets), restart_needed=configuration.control != services.settings)


def _raise_descriptor_limit() -> None:
    """Each connection takes one, and the usual soft limit is 1,024 (getrlimit(2))."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_rarely() -> None:
    """What is there by now stays, and of what comes nearly all is gone without the collector."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AT)


def _stop(server: uvicorn.Server, services: Services) -> None:
    server.force_exit = server.should_exit
    server.should_exit = True
    services.stop()


def _announce(settings: ControlSettings, listener: socket.socket) -> None:
    """Say that the service is ready: to whoever reads stdout, and to systemd."""
    host, port = listener.getsockname()[:2]
    scheme = "http" if settings.plaintext else "https"
    print(f"listening on {scheme}://{f'[{host}]' if ':' in host else host}:{port}", flush=True)  # noqa: T201 for scripts
    log.info("listening", address=host, port=port, tls=not settings.plaintext)
    _notify("READY=1")


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), where it asked to be told."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        try:
            notifier.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            log.warning("systemd was not told", state=state, error=str(error))
