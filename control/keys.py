"""The signing keys: private halves in `state_dir/keys` (0600), token issue, the JWK set.

Signing lives here, verifying in `proxy.contract.token`. Which key signs, and how long a retired one is shown, are rules
(`control.domain.keyring`); where the public halves and their dates are kept is the store's. A private key never leaves
this module, and nothing here is ever logged.
"""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from control.domain.grants import Grant
from control.domain.keyring import SigningKey, published
from control.domain.results import Failure, Reason, Result, Success
from control.times import SECOND
from proxy.contract.grant import Grant as SignedGrant
from proxy.contract.proof import public_text
from proxy.contract.token import TOKEN_BYTES, TOKEN_TYPE, KeySet, claims_of, verify


class KeyRingError(Exception):
    """The key ring cannot be used. Says which file, and what to do."""


def read_private(path: Path, what: str, remedy: str) -> Ed25519PrivateKey:
    """The private key in `path`, if nobody else can read it; errors say `what` it is, and what to do if others can.

    Raises KeyRingError.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise KeyRingError(f"{path}: others can read {what}; {remedy}")
            private = load_pem_private_key(file.read(), password=None)
    except OSError as error:
        raise KeyRingError(f"{path}: cannot read {what}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyRingError(f"{path}: not a private key in PEM") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyRingError(f"{path}: not an Ed25519 key")
    return private


def thumbprint(x: str) -> str:
    """The `kid`: RFC 7638, with the members that RFC 8037 appendix A.3 requires for an OKP key, in their order."""
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def jwks(keys: Sequence[SigningKey], now: int) -> str:
    """The JWK set (RFC 7517) to verify tokens with at `now`."""
    entries = [
        {"kty": "OKP", "crv": "Ed25519", "x": key.x, "kid": key.kid, "use": "sig", "alg": "EdDSA"}
        for key in published(keys, now)
    ]
    return json.dumps({"keys": entries}, separators=(",", ":"))


class KeyRing:
    """The private keys in one folder, a file each, loaded when first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[str, Ed25519PrivateKey] = {}

    def create(self, *, now: int, active_from: int) -> SigningKey:
        """Make a key and keep it on disk. It signs nothing before the store knows it."""
        private = Ed25519PrivateKey.generate()
        x = public_text(private.public_key())
        kid = thumbprint(x)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._path(kid), pem)
        except OSError as error:
            raise KeyRingError(f"{self._folder}: cannot keep a signing key: {error.strerror}") from error
        self._loaded[kid] = private
        return SigningKey(kid=kid, x=x, created_at=now, active_from=active_from)

    def load(self, key: SigningKey) -> Ed25519PrivateKey:
        """The private half of `key`. Raises KeyRingError where it is missing, readable by others, or another one."""
        private = self._loaded.get(key.kid)
        if private is None:
            private = self._loaded[key.kid] = self._read(key)
        return private

    def remove(self, kid: str) -> None:
        """Forget a key for good."""
        self._loaded.pop(kid, None)
        self._path(kid).unlink(missing_ok=True)

    def _path(self, kid: str) -> Path:
        return self._folder / f"{kid}.pem"

    def _read(self, key: SigningKey) -> Ed25519PrivateKey:
        path = self._path(key.kid)
        private = read_private(path, "this signing key", "chmod 600, and rotate the keys")
        if public_text(private.public_key()) != key.x:
            raise KeyRingError(f"{path}: not the key that its name says")
        return private


class Signer:
    """Signs grants as one issuer, for one audience."""

    def __init__(self, ring: KeyRing, *, issuer: str, audience: str) -> None:
        self._ring = ring
        self._jws = jwt.PyJWS()
        self._issuer = issuer
        self._audience = audience

    def sign(self, grant: Grant, key: SigningKey, now: int) -> Result[str]:
        """The token for `grant`. One that would be too long goes without the reason, which the store has whole."""
        signed = grant.to_sign(now)
        token = self._encode(signed, key)
        if len(token) > TOKEN_BYTES:
            token = self._encode(msgspec.structs.replace(signed, reason=None), key)
        if len(token) > TOKEN_BYTES:
            return Failure(
                Reason.TOKEN_TOO_LONG,
                f"the grant's token would have {len(token)} bytes, and {TOKEN_BYTES} is the most that every client "
                "can send: ask for fewer databases or addresses",
            )
        return Success(token)

    def _encode(self, grant: SignedGrant, key: SigningKey) -> str:
        # `jwt.encode` would write six bytes for each character beyond ASCII, and a token has few to spare.
        payload = msgspec.json.encode(claims_of(grant, issuer=self._issuer, audience=self._audience))
        headers = {"typ": TOKEN_TYPE, "kid": key.kid}
        return self._jws.encode(payload, self._ring.load(key), algorithm="EdDSA", headers=headers)

    def check(self, token: str, key: SigningKey, now: int) -> None:
        """Read one's own token as a proxy would: what leaves here is known to open the lock.

        Raises TokenRefusedError, for which there is no cause but a fault in this service.
        """
        verify(
            token,
            keys=KeySet.from_jwks(jwks([key], now)),
            issuer=self._issuer,
            audience=self._audience,
            now=now / SECOND,
        )


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file whole or not at all, for the owner alone, and have it on disk on return."""
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
