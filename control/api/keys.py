"""`/v1/jwks` and `/v1/keys`: the keys that sign tokens."""

from fastapi import APIRouter, Response

from control.api.callers import Admin, Office
from control.api.shapes import KeyOut, Page, Rotation
from control.domain.keyring import SigningKey, State
from control.operations import keys

JWK_SET = "application/jwk-set+json"
router = APIRouter(tags=["keys"])


@router.get("/v1/jwks", response_class=Response)
async def get_jwks(services: Office) -> Response:
    """The public keys that tokens are verified with (RFC 7517). Needs no authentication."""
    return Response(await keys.key_set(services), media_type=JWK_SET)


@router.get("/.well-known/jwks.json", response_class=Response)
async def get_well_known_jwks(services: Office) -> Response:
    """As `/v1/jwks`, where OpenID Connect's discovery looks for it."""
    return Response(await keys.key_set(services), media_type=JWK_SET)


@router.get("/v1/keys")
async def list_keys(services: Office, _: Admin) -> Page[KeyOut]:
    """The key ring, oldest first."""
    return Page(items=[_shown(key, state) for key, state in await keys.everything(services)])


@router.post("/v1/keys/rotate", status_code=201)
async def rotate_keys(services: Office, caller: Admin, rotation: Rotation | None = None) -> KeyOut:
    """Make a new signing key. It is announced to the proxies first and signs a little later."""
    new = await keys.rotate(services, by=caller.name, compromised=rotation is not None and rotation.compromised)
    return next(_shown(key, state) for key, state in await keys.everything(services) if key.kid == new.kid)


def _shown(key: SigningKey, state: State) -> KeyOut:
    return KeyOut.model_validate(
        {
            "kid": key.kid,
            "state": state,
            "created_at": key.created_at,
            "active_from": key.active_from,
            "signed_until": key.signed_until or None,
        }
    )
