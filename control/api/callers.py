"""Who calls: what routers declare as a parameter to get the person, the proxy or the services."""

import math
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from control.api.limiter import FailureCounter
from control.api.problems import ProblemError
from control.domain.people import Person, Right
from control.operations import authentication
from control.operations.authentication import ProvenRequest
from control.operations.following import Standing
from control.services import Services
from proxy.contract.proof import SCHEME

_bearer = HTTPBearer(auto_error=False, scheme_name="api_key", description="A person's API key, `cfk_...`.")
_proof = APIKeyHeader(
    name="Authorization",
    auto_error=False,
    scheme_name="proxy_proof",
    description="A proxy's proof of its key for this very request: `Curfew-Proof <jwt>`.",
)


def services_of(request: Request) -> Services:
    """The services that the application was made with."""
    services: Services = request.app.state.services
    return services


Office = Annotated[Services, Depends(services_of)]


async def person(
    request: Request, services: Office, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Person:
    """The person whose API key came with the request."""
    found = None if credentials is None else await authentication.person_of(services, credentials.credentials)
    if found is None:
        raise unauthenticated(request, services, "Bearer", "a valid API key is needed: Authorization: Bearer cfk_...")
    return found


async def standing(
    services: Office, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Standing:
    """How to ask again who the person is, for an answer that goes on for long: their key may be taken from them."""

    async def ask() -> Person | None:
        return None if credentials is None else await authentication.person_of(services, credentials.credentials)

    return ask


async def admin(caller: Annotated[Person, Depends(person)]) -> Person:
    """As `person`, for what takes the role admin."""
    if not caller.has(Right.ADMINISTER):
        raise ProblemError(403, "forbidden", "this takes the role admin")
    return caller


async def auditor(caller: Annotated[Person, Depends(person)]) -> Person:
    """As `person`, for what takes the role auditor."""
    if not caller.has(Right.SEE_RECORDS):
        raise ProblemError(403, "forbidden", "this takes the role auditor")
    return caller


async def proxy(request: Request, services: Office, header: Annotated[str | None, Depends(_proof)]) -> ProvenRequest:
    """The proxy whose proof came with the request; the body is still to be held against it."""
    scheme, _, proof = (header or "").partition(" ")
    found = None
    if scheme.lower() == SCHEME.lower():
        found = await authentication.proxy_of(services, proof.strip(), method=request.method, path=_target(request))
    if found is None:
        raise unauthenticated(request, services, SCHEME, "a proof of a joined proxy's key is needed")
    return found


def unauthenticated(request: Request, services: Services, scheme: str, detail: str) -> ProblemError:
    """The answer to a caller who could not show who they are, or who tried too often."""
    services.metrics.authentication_failures.inc()
    failures: FailureCounter = request.app.state.failures
    address = request.client.host if request.client else ""
    if (seconds := failures.failed(address)) is not None:
        headers = {"retry-after": str(math.ceil(seconds))}
        return ProblemError(429, "too-many-failures", "too many failed authentications; wait", headers=headers)
    return ProblemError(401, "unauthenticated", detail, headers={"www-authenticate": scheme})


def _target(request: Request) -> str:
    """The request's target as it was sent: path and query, not decoded."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


Caller = Annotated[Person, Depends(person)]
StillCaller = Annotated[Standing, Depends(standing)]
Admin = Annotated[Person, Depends(admin)]
Auditor = Annotated[Person, Depends(auditor)]
ProxyCaller = Annotated[ProvenRequest, Depends(proxy)]
