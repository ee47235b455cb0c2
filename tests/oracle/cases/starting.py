"""StartupMessage: versions, parameters, and the login."""

import struct

from tests.harness.wire import PROTOCOL_3_0, PROTOCOL_3_2, message, query, startup
from tests.oracle.case import Script, add, case
from tests.oracle.talk import Talk

GREASE = "_pq_.test_protocol_negotiation"


def version(number: int, *options: tuple[str, str]) -> Script:
    """The whole login in this version, with these options."""

    async def script(talk: Talk) -> None:
        await talk.encrypted()
        talk.start(*options, version=number)
        await talk.authenticate()
        await talk.alive()

    return script


add("version-3.0", "the usual login, whole", version(PROTOCOL_3_0))
add("version-3.1", "there never was one", version(0x30001))
add("version-3.2", "the newest, with a long cancel key", version(PROTOCOL_3_2))
add("version-3.9", "a newer one is negotiated down", version(0x30009))
add("version-3.9999-and-grease", "as libpq 19 begins", version(0x30000 + 9999, (GREASE, "")))
add("version-3.0-with-an-option", "every option is named", version(PROTOCOL_3_0, ("_pq_.x", "1")))
add("version-3.2-with-options", "every option is named", version(PROTOCOL_3_2, ("_pq_.x", "1"), ("_pq_.y", "2")))
add("version-2.0", "no longer", version(0x20000))
add("version-4.0", "not yet", version(0x40000))
add("version-0.0", "never", version(0))
add("version-1234.5678", "a code one beside those of the requests", version(1234 << 16 | 5677))


def setting(*parameters: tuple[str, str]) -> Script:
    """The login with more parameters, and what came of them."""

    async def script(talk: Talk) -> None:
        await talk.encrypted()
        talk.start(*parameters)
        await talk.authenticate()
        for name, _ in parameters:
            if name != "options":
                await talk.sql(f'SHOW "{name}"')

    return script


def options(text: str, *shown: str) -> Script:
    """The login with command line options, and what came of them."""

    async def script(talk: Talk) -> None:
        await talk.encrypted()
        talk.start(("options", text))
        await talk.authenticate()
        await talk.sql(*(f"SHOW {name}" for name in shown))

    return script


add("setting", "an ordinary one", setting(("work_mem", "8MB"), ("application_name", "oracle")))
add("setting-twice", "the last one counts", setting(("application_name", "a"), ("application_name", "b")))
add("setting-of-an-extension", "any name with a dot", setting(("oracle.whatever", "1")))
add("setting-that-is-none", "42704, once logged in", setting(("no_such_setting", "1")))
add("setting-to-what-it-cannot-be", "22023, with its hint", setting(("work_mem", "lots")))
add("setting-without-a-right", "42501", setting(("log_statement", "all")))
add("setting-that-nobody-may-set", "55P02", setting(("is_superuser", "on")))
add("setting-that-needs-a-restart", "55P02", setting(("shared_buffers", "1GB")))
add("setting-with-an-empty-value", "it is a value", setting(("application_name", "")))
add("setting-of-no-ascii", "PostgreSQL replaces it", setting(("application_name", "päss\x01\x7f")))
add("setting-of-64-bytes", "PostgreSQL cuts it", setting(("application_name", "x" * 64)))
add("encoding", "answered with its proper name", setting(("client_encoding", "utf-8")))
add("encoding-that-is-none", "22023", setting(("client_encoding", "klingon")))
add("encoding-of-one-byte", "texts come in it", setting(("client_encoding", "LATIN1")))
add("settings-that-are-told", "ParameterStatus", setting(("TimeZone", "Asia/Tokyo"), ("DateStyle", "german")))
add("setting-of-another-case", "names are alike in any", setting(("Work_Mem", "8MB")))
add("role", "one that may be taken", setting(("role", "curfew_app")))
add("role-without-a-right", "42501", setting(("role", "postgres")))
add("options", "two in both forms", options("-c work_mem=8MB --geqo=off", "work_mem", "geqo"))
add("options-with-backslashes", "byte for byte", options(r"-c search_path=a\,\ b\\c", "search_path"))
add("options-and-a-plus", "no space to PostgreSQL", options("-c application_name=a+b%20c", "application_name"))
add("options-without-a-value", "42601", options("-c work_mem"))
add("options-that-are-none", "42601", options("--no-such-thing -z"))
add("replication-off", "what is no replication", setting(("replication", "off")))
add("replication", "42501 without the right", setting(("replication", "true")))
add("replication-of-a-database", "42501 without the right", setting(("replication", "database")))
add("replication-of-nonsense", "22023", setting(("replication", "perhaps")))


def packet(*parts: bytes) -> Script:
    """A StartupMessage of these bytes, and what comes of it."""
    body = b"".join(parts)

    async def script(talk: Talk) -> None:
        await talk.encrypted()
        talk.send(struct.pack("!ii", len(body) + 8, PROTOCOL_3_0), body)
        await talk.authenticate()

    return script


USER, DATABASE = b"user\0curfew_app\0", b"database\0orders\0"
add("startup-without-a-terminator", "08P01", packet(USER, DATABASE))
add("startup-with-a-name-alone", "08P01", packet(USER, DATABASE, b"application_name\0\0"))
add("startup-with-more-behind-it", "08P01", packet(USER, DATABASE, b"\0\0"))
add("startup-cut-in-a-value", "08P01", packet(USER, b"database\0orders"))
add("startup-of-nothing", "28000: no user", packet(b"\0"))
add("startup-with-an-empty-user", "28000: no user", packet(b"user\0\0", DATABASE, b"\0"))
add("startup-without-a-user-and-an-option", "28000: no user", packet(DATABASE, b"_pq_.x\0\0\0"))
add("startup-without-a-database", "it is the user's name", packet(USER, b"\0"))
add("startup-with-two-users", "the last one counts", packet(b"user\0nobody\0", USER, DATABASE, b"\0"))
add("startup-with-two-databases", "the last one counts", packet(USER, b"database\0nowhere\0", DATABASE, b"\0"))
add("startup-with-another-database", "3D000", packet(USER, b"database\0nowhere\0\0"))
add("startup-with-another-user", "28P01", packet(b"user\0nobody\0", DATABASE, b"\0"))
add("startup-with-a-user-of-64-bytes", "28P01", packet(b"user\0" + b"x" * 64 + b"\0", DATABASE, b"\0"))
add("startup-with-a-user-of-no-encoding", "28P01", packet(b"user\0\xff\xfe\0", DATABASE, b"\0"))
add("startup-of-10000-bytes", "as long as may be", packet(USER, DATABASE, b"a.b\0", b"x" * 9_957, b"\0\0"))


@case
async def startup_in_pieces(talk: Talk) -> None:
    """However TCP cuts it."""
    await talk.encrypted()
    await talk.drop_by_drop(startup(*talk.who()))
    await talk.authenticate()


def answer_of(data: bytes) -> Script:
    """Something else where the password is due."""

    async def script(talk: Talk) -> None:
        await talk.encrypted()
        talk.start()
        await talk.until("R")
        talk.send(data)
        await talk.rest()

    return script


add("password-that-is-wrong", "28P01", answer_of(message("p", b"wrong\0")))
add("password-that-is-empty", "28P01", answer_of(message("p", b"\0")))
add("password-without-an-end", "08P01", answer_of(message("p", b"wrong")))
add("password-with-two-ends", "08P01", answer_of(message("p", b"wrong\0more\0")))
add("password-of-no-bytes", "08P01", answer_of(message("p")))
add("password-of-65535-bytes", "as long as may be", answer_of(message("p", b"x" * 65_530 + b"\0")))
add("password-of-65536-bytes", "one more", answer_of(b"p" + struct.pack("!i", 65_536)))
add("password-of-2-gib", "never read", answer_of(b"p" + struct.pack("!i", 2**31 - 1)))
add("password-of-length-3", "never read", answer_of(b"p" + struct.pack("!i", 3)))
add("query-for-a-password", "08P01", answer_of(query("SELECT 1")))
add("nothing-for-a-password", "08P01", answer_of(message("X")))


@case
async def closed_for_a_password(talk: Talk) -> None:
    """As psql does before it asks a person."""
    await talk.encrypted()
    talk.start()
    await talk.until("R")
    await talk.end()
    await talk.rest()
