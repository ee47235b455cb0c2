"""Tokens for tests: a signer that says what control would say, or anything else. The keys live as long as the test."""

import json
import time
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from proxy.contract.grant import Grant
from proxy.contract.token import TOKEN_TYPE, KeySet, claims_of

ISSUER = "https://control.test"
AUDIENCE = "curfew"


class Signer:
    """One signing key with its key id."""

    def __init__(self, *, algorithm: str = "EdDSA", kid: str = "test-key") -> None:
        """Make a key for `algorithm`: EdDSA or ES256."""
        self.algorithm = algorithm
        self.kid = kid
        self.key: Ed25519PrivateKey | EllipticCurvePrivateKey = (
            Ed25519PrivateKey.generate() if algorithm == "EdDSA" else generate_private_key(SECP256R1())
        )

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half (RFC 7517)."""
        public = self.key.public_key()
        text = OKPAlgorithm.to_jwk(public) if self.algorithm == "EdDSA" else ECAlgorithm.to_jwk(public)  # type: ignore[arg-type]
        return {**json.loads(text), "kid": self.kid, "use": "sig"}

    @property
    def jwks(self) -> str:
        """A key set of this one key, as JSON text."""
        return json.dumps({"keys": [self.jwk]})

    @property
    def keys(self) -> KeySet:
        """The same, as the proxy holds it."""
        return KeySet.from_jwks(self.jwks)

    def sign(self, claims: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> str:
        """A token with these claims, whatever they are (PyJWT would have its own opinion on some)."""
        payload = json.dumps(claims, separators=(",", ":")).encode()
        named = {"typ": TOKEN_TYPE, "kid": self.kid, **(headers or {})}
        return jwt.PyJWS().encode(payload, self.key, algorithm=self.algorithm, headers=named)

    def token(self, grant: Grant, *, issuer: str = ISSUER, audience: str = AUDIENCE, **changed: object) -> str:
        """The token that control would issue for `grant`; `changed` claims replace it word for word."""
        return self.sign({**claims_of(grant, issuer=issuer, audience=audience), **changed})


def grant(
    *,
    person: str = "dba1",
    target: str = "orders",
    databases: tuple[str, ...] = ("*",),
    profile: str = "readonly",
    lasts_s: float = 600,
    starts_in_s: float = 0,
    id: str = "grt_0123456789abcdef",  # noqa: A002 the field's own name
    addresses: tuple[str, ...] = (),
    **others: Any,  # noqa: ANN401 whatever else a Grant has
) -> Grant:
    """A grant that begins now and lasts `lasts_s`, in whole seconds as tokens have them."""
    start = int(time.time() + starts_in_s)
    return Grant(
        id=id,
        person=person,
        target=target,
        databases=databases,
        profile=profile,
        issued_at=start,
        not_before=start,
        expires_at=start + lasts_s,
        addresses=tuple(ip_network(text) for text in addresses),
        **others,
    )
