"""The HTTP application: the routers, and what is around them. Holds no state but the services it is given."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from control.api import access, exports, keys, locks, log, ops, people, places, proxies, search, sessions
from control.api.envelope import Envelope
from control.api.limiter import FailureCounter
from control.api.problems import MEDIA_TYPE, Problem, install
from control.operations.health import Health
from control.services import Services

DESCRIPTION = """
Just-in-time access for PostgreSQL: requests, approvals, grants and their tokens, sessions and their records.

People authenticate with an API key (`Authorization: Bearer cfk_...`), proxies with a proof of their key for the very
request (`Authorization: Curfew-Proof <jwt>`). Times are RFC 3339 in UTC. Lists are `{"items": [...], "next": ...}`;
`next`, where it is not null, is the `after` of the next page. Every error is `application/problem+json` (RFC 9457).
"""


def create_app(services: Services) -> FastAPI:
    """The application on `services`. It closes them when it shuts down."""
    app = FastAPI(
        title="Curfew control",
        description=DESCRIPTION,
        version=_version(),
        docs_url=None,  # the pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        generate_unique_id_function=_operation_id,
        responses={
            "default": {"description": "A problem.", "content": {MEDIA_TYPE: {"schema": _schema()}}},
            422: {"description": "The input is not valid.", "content": {MEDIA_TYPE: {"schema": _schema()}}},
        },
    )
    app.state.services = services
    app.state.failures = FailureCounter()
    app.state.health = Health(services)
    install(app)
    for module in (people, access, locks, sessions, exports, search, log, keys, proxies, places, ops):
        app.include_router(module.router)
    app.add_middleware(_envelope(services))
    return app


def _envelope(services: Services) -> Callable[[ASGIApp], ASGIApp]:
    def wrap(app: ASGIApp) -> ASGIApp:
        return Envelope(
            app,
            metrics=services.metrics,
            tls=not services.settings.plaintext,
            larger={"/v1/records": proxies.RECORD_BYTES},
        )

    return wrap


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    yield
    services.stop()
    await services.store.close()


def _operation_id(route: APIRoute) -> str:
    return route.name


def _schema() -> dict[str, object]:
    return Problem.model_json_schema()


def _version() -> str:
    try:
        return version("pgcurfew")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0"
