"""`/v1/me` and `/v1/people`."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from control.api.callers import Admin, Caller, Office
from control.api.problems import unwrap
from control.api.shapes import AddedPerson, ApiKeyOut, NewPerson, Page, PersonChange, PersonOut
from control.operations import people

router = APIRouter(prefix="/v1", tags=["people"])
Limit = Annotated[int, Query(ge=1, le=1_000)]


@router.get("/me")
async def get_me(caller: Caller) -> PersonOut:
    """Who you are."""
    return PersonOut.model_validate(caller)


@router.get("/people")
async def list_people(services: Office, _: Admin, after: str | None = None, limit: Limit = 100) -> Page[PersonOut]:
    """Everybody, by name."""
    found, following = await people.page(services, after=after, limit=limit)
    return Page(items=[PersonOut.model_validate(person) for person in found], next=following)


@router.post("/people", status_code=201)
async def add_person(services: Office, caller: Admin, new: NewPerson) -> AddedPerson:
    """Add somebody. Their API key is shown this once."""
    added = await people.add(services, name=new.name, full_name=new.full_name, roles=new.roles, by=caller.name)
    person, api_key = unwrap(added)
    return AddedPerson.model_validate(asdict(person) | {"api_key": api_key})


@router.patch("/people/{name}")
async def change_person(services: Office, caller: Admin, name: str, change: PersonChange) -> PersonOut:
    """Change somebody's roles, or disable them, which revokes their grants."""
    changed = await people.change(services, name, roles=change.roles, disabled=change.disabled, by=caller)
    return PersonOut.model_validate(unwrap(changed))


@router.post("/people/{name}/keys", status_code=201)
async def add_api_key(services: Office, caller: Admin, name: str) -> ApiKeyOut:
    """Give somebody one more API key. It is shown this once."""
    key_id, api_key = unwrap(await people.add_key(services, name, by=caller))
    return ApiKeyOut(id=key_id, api_key=api_key)


@router.delete("/people/{name}/keys/{key_id}", status_code=204)
async def revoke_api_key(services: Office, caller: Admin, name: str, key_id: str) -> None:
    """End an API key."""
    unwrap(await people.revoke_key(services, name, key_id, by=caller))
