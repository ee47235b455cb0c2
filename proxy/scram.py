"""The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it, with derived keys kept.

Owns one exchange's state and the keys derived from passwords. Never keeps a password, never talks to a socket and
never runs PBKDF2 on the event loop. What a login is bound to (SCRAM-SHA-256-PLUS) is the caller's to find out.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from scramp.utils import ScramException, saslprep

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"
MIN_ITERATIONS = 4096
"""RFC 7677's minimum. A server that asks for fewer collects proofs that are cheap to crack."""
MAX_ITERATIONS = 1_000_000
"""About half a second of one core. A server that asks for more wants to keep us busy."""
KEPT_KEYS = 64

# What the client says of channel binding (RFC 5802, section 7: gs2-cbind-flag). It is part of what is signed, so that
# nobody in between can take the better mechanism out of the server's offer unseen.
UNBOUND = b"n,,"
"""The client does not bind."""
UNOFFERED = b"y,,"
"""The client would bind, and believes that the server cannot. A server that can refuses the login."""
BOUND = b"p=tls-server-end-point,,"
"""The login is bound to the server's certificate."""

_NONCE_BYTES = 18  # as libpq
# server-first-message: nonce, salt, iteration count; what may follow are extensions that we do not know. A message
# that starts with `m=` (an extension that we would have to know) does not match.
_SERVER_FIRST = re.compile(rb"r=([!-+\--~]{1,1024}),s=([A-Za-z0-9+/]{1,1024}={0,2}),i=([1-9][0-9]{0,9})(?:,.*)?")
_SERVER_FINAL = re.compile(rb"v=([A-Za-z0-9+/]{43}=)(?:,.*)?")


class ScramError(Exception):
    """The server broke the exchange, or did not prove that it knows the password. For the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a password, a salt and an iteration count come to (RFC 5802, section 3). As secret as the password."""

    client: bytes = field(repr=False)
    server: bytes = field(repr=False)


class KeyCache:
    """Derived keys by (password, salt, iterations), the last used `size` of them.

    The password itself is not kept: the index is an HMAC under a key that only this process knows.
    """

    def __init__(self, size: int = KEPT_KEYS) -> None:
        self._size = size
        self._index_key = secrets.token_bytes(32)
        self._kept: OrderedDict[bytes, Keys] = OrderedDict()
        self._deriving = asyncio.Lock()
        """One derivation at a time: many sessions that start at once cost one PBKDF2, and a hostile server one core."""

    def __len__(self) -> int:
        return len(self._kept)

    async def keys(self, password: bytes, salt: bytes, iterations: int) -> Keys:
        """The keys, from the cache or derived in a thread."""
        index = hmac.digest(self._index_key, b"%d:%d:%b%b" % (iterations, len(salt), salt, password), "sha256")
        if index not in self._kept:
            async with self._deriving:
                if index not in self._kept:
                    self._keep(index, await asyncio.to_thread(_derive, password, salt, iterations))
        self._kept.move_to_end(index)
        return self._kept[index]

    def _keep(self, index: bytes, keys: Keys) -> None:
        if len(self._kept) >= self._size:
            self._kept.popitem(last=False)
        self._kept[index] = keys


class Exchange:
    """One authentication: `first`, then `final` on the server's answer, then `verify` on its last word."""

    def __init__(self, password: str, cache: KeyCache, *, header: bytes = UNBOUND, binding: bytes = b"") -> None:
        """`header` is UNBOUND, UNOFFERED, or BOUND with the channel's data as `binding`."""
        self._header = header
        self._binding = binding
        self._password = prepare(password)
        self._cache = cache
        self._nonce = base64.b64encode(secrets.token_bytes(_NONCE_BYTES))
        # The user name is empty, as libpq has it: PostgreSQL takes it from the startup packet.
        self._first_bare = b"n=,r=" + self._nonce
        self._answered = False
        self._server_signature: bytes | None = None
        self.verified = False
        """The server proved that it knows the password's keys."""

    def first(self) -> bytes:
        """The client-first-message."""
        return self._header + self._first_bare

    async def final(self, server_first: bytes) -> bytes:
        """The client-final-message that answers `server_first`. Raises ScramError; one proof is all that is given."""
        if self._answered:
            raise ScramError("the server asks for a second proof")
        self._answered = True
        nonce, salt, iterations = _parse_first(server_first)
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ScramError("the server's nonce does not continue ours")
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise ScramError(f"{iterations} iterations asked for, {MIN_ITERATIONS} to {MAX_ITERATIONS} allowed")
        keys = await self._cache.keys(self._password, salt, iterations)
        unproven = b"c=" + base64.b64encode(self._header + self._binding) + b",r=" + nonce
        transcript = b",".join((self._first_bare, server_first, unproven))
        self._server_signature = hmac.digest(keys.server, transcript, "sha256")
        client_signature = hmac.digest(hashlib.sha256(keys.client).digest(), transcript, "sha256")
        proof = bytes(a ^ b for a, b in zip(keys.client, client_signature, strict=True))
        return unproven + b",p=" + base64.b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """Check the server's signature. Raises ScramError."""
        matched = _SERVER_FINAL.fullmatch(server_final)
        if matched is None or self._server_signature is None:
            raise ScramError("malformed last message of the server")
        if not hmac.compare_digest(base64.b64decode(matched[1]), self._server_signature):
            raise ScramError("the server's signature is wrong: it does not know the password")
        self.verified = True


def prepare(password: str) -> bytes:
    """The password as PostgreSQL hashes it: SASLprep, or the text as it is where SASLprep forbids it.

    See pg_saslprep in src/common/saslprep.c: ASCII is left alone, and so is what cannot be prepared.
    """
    if password.isascii():
        return password.encode()
    try:
        prepared: str = saslprep(password)
    except ScramException:
        prepared = ""
    return (prepared or password).encode()


def _parse_first(message: bytes) -> tuple[bytes, bytes, int]:
    matched = _SERVER_FIRST.fullmatch(message)
    if matched is None:
        raise ScramError("malformed first message of the server")
    try:
        salt = base64.b64decode(matched[2], validate=True)
    except binascii.Error as error:
        raise ScramError("the server's salt is not base64") from error
    return matched[1], salt, int(matched[3])


def _derive(password: bytes, salt: bytes, iterations: int) -> Keys:
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    return Keys(
        client=hmac.digest(salted, b"Client Key", "sha256"), server=hmac.digest(salted, b"Server Key", "sha256")
    )
