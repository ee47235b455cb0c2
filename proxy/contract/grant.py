"""A grant: what an approved request allows, and the checks that a connection must pass.

Owns the rules of admission that need nothing but the grant and the connection's own facts. It never looks at a
signature (see `token`), a revocation list or a session count (see `proxy.registry`).
"""

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

NAME_BYTES = 63
"""PostgreSQL cuts identifiers to this many bytes (NAMEDATALEN - 1), so a longer name is not the name it seems."""


class EndMode(enum.StrEnum):
    """How a session ends when its grant does."""

    HARD = "hard"
    """The backend is terminated at once (the default)."""
    FINISH = "finish"
    """The running statement may end within the target's limit; no other one starts."""


class Refusal(enum.StrEnum):
    """Why a connection is not admitted. For the log, the metric and the record; the client sees one constant text."""

    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_KEY = "unknown_key"
    WRONG_ALGORITHM = "wrong_algorithm"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_VERSION = "unknown_version"
    MISSING_CLAIM = "missing_claim"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_SUBJECT = "wrong_subject"
    WRONG_TARGET = "wrong_target"
    WRONG_DATABASE = "wrong_database"
    WRONG_ADDRESS = "wrong_address"
    WRONG_CERTIFICATE = "wrong_certificate"
    UNKNOWN_PROFILE = "unknown_profile"
    UNSUPPORTED = "unsupported"
    """The grant asks for something that this proxy cannot hold it to (for instance an end mode it does not have)."""
    REPLICATION = "replication"
    """A replication connection, which the access profile or the grant does not allow."""
    REVOKED = "revoked"
    LOCKED = "locked"
    NO_LEASE = "no_lease"
    TOO_MANY_SESSIONS = "too_many_sessions"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A verified grant. Times are seconds since the epoch."""

    id: str
    person: str
    target: str
    databases: tuple[str, ...]
    profile: str
    issued_at: float
    not_before: float
    expires_at: float
    max_sessions: int | None = None
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    certificate: str | None = None
    """The client certificate's SHA-256 thumbprint, base64url (RFC 8705 section 3.1)."""
    end: EndMode = EndMode.HARD
    approved_by: str | None = None
    reason: str | None = None

    @property
    def covers_server(self) -> bool:
        """Whether it is for all databases."""
        return self.databases == ("*",)

    def allows_database(self, database: str) -> bool:
        """Whether `database`, as PostgreSQL will read it, is granted."""
        return self.covers_server or database in self.databases

    def refuses(
        self,
        *,
        user: str,
        target: str,
        database: str | None,
        address: IPv4Address | IPv6Address | None,
        certificate: str | None,
    ) -> Refusal | None:
        """Why a connection with these facts is refused, or None where the grant covers it.

        `address` is None on a unix socket, which a grant with addresses never covers. `database` is None where it
        connects to none, which is what physical replication does.
        """
        if user != self.person:
            return Refusal.WRONG_SUBJECT
        if target != self.target:
            return Refusal.WRONG_TARGET
        if database is not None and (len(database.encode()) > NAME_BYTES or not self.allows_database(database)):
            return Refusal.WRONG_DATABASE
        if self.addresses and (address is None or not any(_within(address, network) for network in self.addresses)):
            return Refusal.WRONG_ADDRESS
        if self.certificate is not None and certificate != self.certificate:
            return Refusal.WRONG_CERTIFICATE
        return None


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """The address in `text` without its zone, an IPv4-mapped IPv6 address as IPv4. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """The CIDR in `text`. Raises ValueError where host bits are set or the text is no network."""
    return ip_network(text)


def _within(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network
