"""`/v1/targets`, `/v1/requests` and `/v1/grants`: asking for access, deciding, and what came of it."""

from typing import Annotated

from fastapi import APIRouter, Query

from control.api.callers import Caller, Office
from control.api.people import Limit
from control.api.problems import unwrap
from control.api.shapes import (
    Approval,
    Comment,
    GrantOut,
    NewExtension,
    NewRequest,
    Page,
    ProfileOut,
    RequestOut,
    TargetOut,
    TokenOut,
    Why,
)
from control.domain.drafts import Draft
from control.domain.extensions import Draft as ExtensionDraft
from control.domain.grants import State as GrantState
from control.domain.requests import Action
from control.domain.requests import State as RequestState
from control.operations import extensions, grants, requests

router = APIRouter(prefix="/v1", tags=["access"])
After = Annotated[int | None, Query(ge=0, lt=2**63)]
WaitS = Annotated[float, Query(ge=0, le=60)]


@router.get("/targets")
async def list_targets(services: Office, _: Caller) -> Page[TargetOut]:
    """What access can be asked for."""
    items = [
        TargetOut(
            name=name,
            description=target.description,
            database=target.database,
            databases=target.databases,
            profiles=[ProfileOut(name=own, description=way.description) for own, way in sorted(target.access.items())],
        )
        for name, target in sorted(services.targets.items())
    ]
    return Page(items=items)


@router.post("/requests", status_code=201)
async def create_request(services: Office, caller: Caller, new: NewRequest) -> RequestOut:
    """Ask for access."""
    return RequestOut.model_validate(unwrap(await requests.create(services, Draft(**dict(new)), by=caller)))


@router.get("/requests")
async def list_requests(
    services: Office,
    caller: Caller,
    *,
    state: RequestState | None = None,
    person: str | None = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[RequestOut]:
    """The requests that you may see, newest first."""
    found, following = await requests.page(services, asker=caller, person=person, state=state, after=after, limit=limit)
    items = [RequestOut.model_validate(request) for request in found]
    return Page.of(items, following)


@router.get("/requests/{request_id}")
async def get_request(services: Office, caller: Caller, request_id: str, wait_s: WaitS = 0) -> RequestOut:
    """One request; with `wait_s`, once it is decided, or as it stands after that time."""
    return RequestOut.model_validate(unwrap(await requests.get(services, request_id, asker=caller, wait_s=wait_s)))


@router.post("/requests/{request_id}/approve")
async def approve_request(
    services: Office, caller: Caller, request_id: str, approval: Approval | None = None
) -> RequestOut:
    """Approve: the grant starts at once, or the one that is to be extended ends later."""
    approval = approval or Approval()
    decided = await requests.decide(
        services,
        request_id,
        Action.APPROVE,
        by=caller,
        comment=approval.comment,
        duration_s=approval.duration_s,
        end=approval.end,
    )
    return RequestOut.model_validate(unwrap(decided))


@router.post("/requests/{request_id}/deny")
async def deny_request(services: Office, caller: Caller, request_id: str, said: Comment | None = None) -> RequestOut:
    """Deny."""
    decided = await requests.decide(
        services, request_id, Action.DENY, by=caller, comment=None if said is None else said.comment
    )
    return RequestOut.model_validate(unwrap(decided))


@router.post("/requests/{request_id}/withdraw")
async def withdraw_request(services: Office, caller: Caller, request_id: str) -> RequestOut:
    """Take back your own request."""
    return RequestOut.model_validate(unwrap(await requests.decide(services, request_id, Action.WITHDRAW, by=caller)))


@router.get("/grants")
async def list_grants(
    services: Office,
    caller: Caller,
    *,
    state: GrantState | None = None,
    person: str | None = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[GrantOut]:
    """The grants that you may see, newest first."""
    found, following = await grants.page(services, asker=caller, person=person, state=state, after=after, limit=limit)
    now = services.clock()
    return Page.of([GrantOut.of(told, now) for told in found], following)


@router.get("/grants/{grant_id}")
async def get_grant(services: Office, caller: Caller, grant_id: str) -> GrantOut:
    """One grant."""
    return GrantOut.of(unwrap(await grants.get(services, grant_id, asker=caller)), services.clock())


@router.post("/grants/{grant_id}/revoke")
async def revoke_grant(services: Office, caller: Caller, grant_id: str, why: Why) -> GrantOut:
    """End a grant now, and its sessions with it. Anybody may end their own."""
    revoked = await grants.revoke(services, grant_id, by=caller, reason=why.reason)
    return GrantOut.of(unwrap(revoked), services.clock())


@router.post("/grants/{grant_id}/extensions", status_code=201)
async def request_extension(services: Office, caller: Caller, grant_id: str, new: NewExtension) -> RequestOut:
    """Ask for more time on your own active grant: a request that somebody else decides."""
    return RequestOut.model_validate(
        unwrap(await extensions.ask(services, grant_id, ExtensionDraft(**dict(new)), by=caller))
    )


@router.post("/grants/{grant_id}/token")
async def issue_token(services: Office, caller: Caller, grant_id: str) -> TokenOut:
    """A token for your own active grant, and what to connect with."""
    token = unwrap(await grants.token(services, grant_id, asker=caller))
    return TokenOut(
        token=token.text,
        grant=token.grant.id,
        expires_at=token.grant.expires_at,  # type: ignore[arg-type] # Time makes a text of it
        user=token.grant.person,
        dbname=token.grant.target,
        host=token.host,
        port=token.port,
    )
