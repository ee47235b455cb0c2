"""Passwords of accounts: one proxy's workers have the same, nobody else has it, and PostgreSQL's verifier fits."""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.account_password import Passwords

KEY = Ed25519PrivateKey.generate()
ROLE = {"target": "orders", "role": "curfew_alice_grt_1", "grant": "grt_1"}


def test_the_same_in_every_worker() -> None:
    """From the key alone."""
    assert Passwords(KEY).of(**ROLE) == Passwords(KEY).of(**ROLE)
    assert Passwords(KEY).verifier(**ROLE) == Passwords(KEY).verifier(**ROLE)


def test_another_for_everything_else() -> None:
    """Another proxy, target, role or grant."""
    others = [{**ROLE, name: "other"} for name in ROLE]
    made = {Passwords(KEY).of(**one) for one in [ROLE, *others]} | {Passwords(Ed25519PrivateKey.generate()).of(**ROLE)}
    assert len(made) == 5
    assert all(len(one) == 43 for one in made)


def test_the_verifier_is_of_that_password() -> None:
    """As PostgreSQL would have made it (RFC 5803), and the password is not in it."""
    passwords = Passwords(KEY)
    verifier = passwords.verifier(**ROLE)
    mechanism, rest, keys = verifier.split("$")
    iterations, salt = rest.split(":")
    stored, server = (base64.b64decode(one) for one in keys.split(":"))
    salted = hashlib.pbkdf2_hmac("sha256", passwords.of(**ROLE).encode(), base64.b64decode(salt), int(iterations))
    assert mechanism == "SCRAM-SHA-256"
    assert hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest() == stored
    assert hmac.digest(salted, b"Server Key", "sha256") == server
    assert passwords.of(**ROLE) not in verifier
