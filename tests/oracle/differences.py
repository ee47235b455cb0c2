"""The reviewed list: where Curfew answers otherwise than PostgreSQL, what exactly it says, and why that is right.

`python -m tests.oracle` fails on a difference that is not here, on one that is here and says something else, and on one
that is here and did not occur.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OK = "R b'\\x00\\x00\\x00\\x00'"
PASSWORD = "R b'\\x00\\x00\\x00\\x03'"
SAYS_WHY = ("+ E FATAL 08P01",)
SHORT_KEY, LONG_KEY = "- K a pid, a secret of 4 bytes", "+ K a pid, a secret of 32 bytes"


def v(sign: str, minor: int, *options: str) -> str:
    """NegotiateProtocolVersion."""
    names = "".join(f"{option}\\x00" for option in options)
    return f"{sign} v b'\\x00\\x03\\x00\\x0{minor}\\x00\\x00\\x00\\x0{len(options)}{names}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One reason, and where it shows."""

    reason: str
    cases: Mapping[str, Sequence[str]]
    """By case, the lines that differ: `- ` is said by PostgreSQL alone, `+ ` by Curfew alone. `...` for any more."""
    versions: range = range(14, 100)
    """The major versions of PostgreSQL on which it shows."""


REVIEWED: Sequence[Difference] = (
    Difference(
        reason="Curfew speaks protocol 3.2, with its long cancel keys, whatever the PostgreSQL behind it speaks.",
        versions=range(14, 18),
        cases={
            "version-3.2": (v("-", 0), SHORT_KEY, LONG_KEY),
            "version-3.9": (v("-", 0), v("+", 2), SHORT_KEY, LONG_KEY),
            "version-3.9999-and-grease": (
                v("-", 0, "_pq_.test_protocol_negotiation"),
                v("+", 2, "_pq_.test_protocol_negotiation"),
                SHORT_KEY,
                LONG_KEY,
            ),
            "version-3.2-with-options": (
                v("-", 0, "_pq_.x", "_pq_.y"),
                v("+", 2, "_pq_.x", "_pq_.y"),
                SHORT_KEY,
                LONG_KEY,
            ),
        },
    ),
    Difference(
        reason="There never was a protocol 3.1: Curfew says that it speaks 3.0, where PostgreSQL 18 takes it for that "
        "without a word.",
        versions=range(18, 100),
        cases={"version-3.1": (v("+", 0),)},
    ),
    Difference(
        reason="PostgreSQL answers a client of protocol 2 in that protocol's own form of an error. The last such "
        "client was libpq 7.3 of 2002; Curfew has one form.",
        cases={"version-2.0": ("- (cut inside a message: ...", "+ E FATAL 0A000", "+ (closed)")},
    ),
    Difference(
        reason="Curfew takes direct TLS, with ALPN, in front of every PostgreSQL; PostgreSQL does from 17 on. What "
        "begins as TLS and is none gets TLS's own alert.",
        versions=range(14, 17),
        cases={
            "direct-tls": ("- (no TLS)", "..."),
            "direct-tls-without-alpn": ("- (no TLS)", "+ (closed)"),
            "tls-and-then-garbage": ("- (closed)", "+ (cut inside a message: b'\\x02\\n')"),
        },
    ),
    Difference(
        reason="As PostgreSQL from 17 on, Curfew hands what comes behind SSLRequest to the TLS engine, where clear "
        "text fails; before, PostgreSQL finished the handshake and refused then.",
        versions=range(14, 17),
        cases={
            "clear-text-behind-the-request-for-tls": ("- E FATAL 08P01", "- (closed)", "+ (no TLS)"),
        },
    ),
    Difference(
        reason="These PostgreSQLs are built with GSSAPI and take GSSENCRequest; Curfew declines it, and a second "
        "one is no first packet any more.",
        cases={
            "gss-then-tls": ("- (byte b'G')", "+ (byte b'N')", "+ (byte b'S')"),
            "gss-twice": ("- (byte b'G')", "+ (byte b'N')", "+ (closed)"),
        },
    ),
    Difference(
        reason="PostgreSQL writes into its log why it closes on a message with an impossible length, and tells the "
        "client nothing. Curfew tells the client.",
        cases=dict.fromkeys(
            (
                "password-of-2-gib",
                "password-of-65536-bytes",
                "password-of-length-3",
                "length-of-0",
                "length-of-3",
                "length-that-is-negative",
                "length-over-a-gib",
                "length-of-a-long-sync",
                "length-of-a-long-describe",
                "length-of-a-long-copy-fail",
            ),
            SAYS_WHY,
        ),
    ),
    Difference(
        reason="A statement is held back whole until its record is written, and so may be as long as max_message_bytes "
        "(128 MiB) says; PostgreSQL's limit is a GiB.",
        cases={"length-of-200-mb": SAYS_WHY},
    ),
    Difference(
        reason="A type that no message has is never forwarded, in a COPY as elsewhere; PostgreSQL fails the COPY "
        "first.",
        cases={"copy-in-and-no-message": ("- E ERROR 08P01",)},
    ),
    Difference(
        reason="A database name is a target's name at Curfew, and a grant names it: nobody is told which there are.",
        cases=dict.fromkeys(
            ("startup-without-a-database", "startup-with-another-database"),
            (f"- {OK}", "- E FATAL 3D000", "+ E FATAL 28P01"),
        ),
    ),
    Difference(
        reason="Grants are text, and so is whom they name: a name that is none is refused before a token is asked for.",
        cases={
            "startup-with-a-user-of-no-encoding": (f"- {PASSWORD}", "- E FATAL 28P01", "+ E FATAL 28000"),
        },
    ),
    Difference(
        reason="Curfew judges the whole packet before it answers; PostgreSQL names the options it does not know before "
        "it looks for the user.",
        cases={"startup-without-a-user-and-an-option": (v("-", 0, "_pq_.x"),)},
    ),
    Difference(
        reason="The person and the grant go along as settings, and PostgreSQL reads 10,000 bytes: a client has "
        "some 100 bytes less.",
        cases={"startup-of-10000-bytes": (f"- {OK}", "...", "+ E FATAL 08P01", "+ (closed)")},
    ),
    Difference(
        reason="Replication is a matter of the grant, which says so before PostgreSQL is asked.",
        cases={
            "replication": (f"- {OK}",),
            "replication-of-a-database": (f"- {OK}",),
        },
    ),
    Difference(
        reason="A client in clear that closes its half in the midst of COPY IN has given up: its session is ended as "
        "any that a client leaves, without a word.",
        cases=dict.fromkeys(
            ("copy-in-and-closed", "copy-in-and-closed-at-once"),
            ("- E ERROR 08006", "- E FATAL 08P01"),
        ),
    ),
)


def reviewed(case: str, version: int) -> Difference | None:
    """What the list says on `case` with this major version of PostgreSQL."""
    return next((one for one in REVIEWED if case in one.cases and version in one.versions), None)


def agrees(differs: Sequence[str], listed: Sequence[str]) -> bool:
    """Whether what differs is what is listed: line by line, `...` standing for the rest of a line, or for lines."""
    if not listed or not differs:
        return not listed and not differs
    first, *others = listed
    if first == "...":
        return any(agrees(differs[at:], others) for at in range(len(differs) + 1))
    alike = differs[0].startswith(first[:-3]) if first.endswith("...") else differs[0] == first
    return alike and agrees(differs[1:], others)
