"""The password of a role that the proxy logs in as, and the SCRAM verifier by which PostgreSQL knows it.

Derived from the proxy's own key, so that all its workers have the same one and none is stored; another proxy has
another. PostgreSQL, its log and the wire see the verifier alone, from which nobody can log in. Pure.
https://www.postgresql.org/docs/current/catalog-pg-authid.html
"""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ITERATIONS = 4096
"""PostgreSQL's own default. The password is 256 random bits: nobody guesses it, however cheap a guess is."""


class Passwords:
    """One proxy's."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._secret = key.private_bytes_raw()

    def of(self, *, target: str, role: str, grant: str) -> str:
        """The password of `role`. For a person's own role `grant` is empty: it has one for all of them."""
        return base64.urlsafe_b64encode(self._derive("password", target, role, grant)).decode().rstrip("=")

    def verifier(self, *, target: str, role: str, grant: str) -> str:
        """What PostgreSQL stores of it (RFC 5803); the same each time, so that setting it again changes nothing."""
        salt = self._derive("salt", target, role, grant)[:16]
        password = self.of(target=target, role=role, grant=grant).encode()
        salted = hashlib.pbkdf2_hmac("sha256", password, salt, ITERATIONS)
        stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        server = hmac.digest(salted, b"Server Key", "sha256")
        first, second, third = (base64.b64encode(one).decode() for one in (salt, stored, server))
        return f"SCRAM-SHA-256${ITERATIONS}:{first}${second}:{third}"

    def _derive(self, *purpose: str) -> bytes:
        """32 bytes of their own for each purpose (RFC 5869). No part has a NUL, PostgreSQL's names least of all."""
        info = b"curfew account\0" + "\0".join(purpose).encode()
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(self._secret)
