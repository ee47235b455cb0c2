"""`/livez`, `/readyz` and `/metrics`: for whoever runs the service. They need no authentication and tell no secrets."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from control.api.callers import Office
from control.api.problems import ProblemError
from control.operations.health import Health

router = APIRouter(tags=["operations"])


@router.get("/livez", response_class=Response)
async def get_livez() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", response_class=Response)
async def get_readyz(request: Request) -> Response:
    """The service can do its work: the database takes writes, and there is a key to sign with."""
    health: Health = request.app.state.health
    if (obstacle := await health.obstacle()) is not None:
        raise ProblemError(503, "not-ready", obstacle)
    return Response("ok\n", media_type="text/plain")


@router.get("/metrics", response_class=Response)
async def get_metrics(services: Office) -> Response:
    """Metrics, as Prometheus reads them."""
    return Response(services.metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})
