"""Who is asking: people by API key, proxies by proof of their key.

Whatever is wrong with a key or a proof, the answer is the same None: neither says whether a person, a key or a proxy
exists. What it was goes to the log, without the secret.
"""

import structlog

from control.credentials import matches, split_api_key
from control.domain.people import Person
from control.services import Services
from control.store import people, proxies
from control.store.proxies import Proxy
from control.times import SECOND
from proxy.contract.proof import ProofError, issuer_of, public_key, verify_body, verify_request

PROOF_CHARACTERS = 4_096
JTI_CHARACTERS = 64

log = structlog.get_logger(__name__)


async def person_of(services: Services, api_key: str) -> Person | None:
    """The person whose API key this is."""
    parts = split_api_key(api_key)
    key_id, secret = parts or ("", "")
    async with services.store.read() as tx:
        key = await people.find_key(tx, key_id)
        person = None if key is None else await people.find(tx, key.person)
    usable = key is not None and key.revoked_at is None and person is not None and person.disabled_at is None
    if matches(secret, None if key is None else key.digest) and usable:
        return person
    # The id of a key that is known. An unknown one is not logged: a part of somebody's secret may stand there.
    log.warning("API key refused", key_id=None if key is None else key.id, usable=usable)
    return None


class ProvenRequest:
    """A request whose proof holds but for the body, which may be large and is read only now."""

    def __init__(self, proxy: Proxy, claims: dict[str, object]) -> None:
        self.proxy = proxy
        self._claims = claims

    def covers(self, body: bytes) -> bool:
        """Whether the proof is for this body."""
        try:
            verify_body(self._claims, body)
        except ProofError:
            log.warning("proof refused", proxy=self.proxy.name, why="another body")
            return False
        return True


async def proxy_of(services: Services, proof: str, *, method: str, path: str) -> ProvenRequest | None:
    """The proxy that made this proof, for this request, and not before."""
    now = services.clock()
    try:
        if len(proof) > PROOF_CHARACTERS:
            raise ProofError("too long")
        name = issuer_of(proof)
        async with services.store.read() as tx:
            proxy = await proxies.find(tx, name)
        if proxy is None:
            raise ProofError("unknown proxy")
        # Only the key in force: a replaced one proves old sessions and opens nothing.
        claims = verify_request(proof, public_key(proxy.keys[0]), method=method, path=path, now=now / SECOND)
        jti = claims["jti"]
        if len(jti) > JTI_CHARACTERS or not services.replays.admit(proxy.name, jti, now / SECOND):
            raise ProofError("seen before")
    except (ProofError, ValueError) as error:
        log.warning("proof refused", why=str(error))
        return None
    services.presence.seen(proxy.name, now)
    return ProvenRequest(proxy, claims)
