"""Messages that are not as they should be: PostgreSQL judges the bodies, and lives; a bad header ends the session."""

import struct

from tests.harness.wire import bind, execute, message, parse
from tests.oracle.case import Script, add, up_to_sync
from tests.oracle.talk import Talk


def raw_bind(*parts: bytes, names: bytes = b"\0\0") -> bytes:
    """A Bind of these bytes."""
    return message("B", names + b"".join(parts))


def counts(*numbers: int) -> bytes:
    """Numbers of two bytes."""
    return struct.pack(f"!{len(numbers)}H", *numbers)


P1, P2 = parse("SELECT $1::int"), parse("SELECT $1::int, $2::text")
FIVE = struct.pack("!i", 1) + b"5"
INT4 = struct.pack("!ii", 4, 5)
WIDE = parse("SELECT " + ", ".join(f"${number}::int" for number in range(1, 1_601)))

add("bind", "one format for all", up_to_sync(P1, raw_bind(counts(1, 1, 1), INT4, counts(1, 1)), execute()))
add("bind-of-null", "length -1", up_to_sync(P1, bind(None), execute()))
add("bind-of-too-few", "08P01", up_to_sync(P2, raw_bind(counts(0, 1), FIVE, counts(0))))
add("bind-of-too-many", "08P01", up_to_sync(P1, raw_bind(counts(0, 2), FIVE, FIVE, counts(0))))
add("bind-of-none", "08P01", up_to_sync(P1, raw_bind(counts(0, 0, 0))))
add("bind-of-65535", "08P01", up_to_sync(P1, raw_bind(counts(0, 65_535), FIVE * 65_535, counts(0))))
add("bind-of-1600", "as many as there are columns", up_to_sync(WIDE, bind(*["7"] * 1_600), execute()))
add("bind-with-two-formats-for-one", "08P01", up_to_sync(P1, raw_bind(counts(2, 0, 0, 1), FIVE, counts(0))))
add("bind-with-two-formats-for-three", "08P01", up_to_sync(P2, raw_bind(counts(3, 0, 0, 0, 2), FIVE, FIVE, counts(0))))
add("bind-in-a-strange-format", "22023", up_to_sync(P1, raw_bind(counts(1, 7, 1), FIVE, counts(0))))
add("bind-for-a-strange-result", "22023", up_to_sync(P1, raw_bind(counts(0, 1), FIVE, counts(1, 7)), execute()))
add("bind-for-too-many-results", "08P01", up_to_sync(P1, raw_bind(counts(0, 1), FIVE, counts(3, 0, 0, 0)), execute()))
add("bind-of-a-short-value", "08P01", up_to_sync(P1, raw_bind(counts(0, 1), struct.pack("!i", 9) + b"5", counts(0))))
add(
    "bind-of-a-long-value",
    "08P01",
    up_to_sync(P1, raw_bind(counts(0, 1), struct.pack("!i", 2**31 - 1), b"5", counts(0))),
)
add("bind-of-a-negative-length", "08P01", up_to_sync(P1, raw_bind(counts(0, 1), struct.pack("!i", -2), counts(0))))
add("bind-of-the-least-length", "08P01", up_to_sync(P1, raw_bind(counts(0, 1), struct.pack("!i", -(2**31)), counts(0))))
add("bind-of-no-number", "22P02", up_to_sync(P1, bind("five"), execute()))
add("bind-of-a-binary-too-short", "08P01", up_to_sync(P1, raw_bind(counts(1, 1, 1), FIVE, counts(0)), execute()))
add(
    "bind-of-a-binary-too-long",
    "22P03",
    up_to_sync(P1, raw_bind(counts(1, 1, 1, 0, 8), bytes(8), counts(0)), execute()),
)
add(
    "bind-of-no-encoding",
    "22021",
    up_to_sync(P2, raw_bind(counts(0, 2), FIVE, struct.pack("!i", 2), b"\xff\xfe", counts(0))),
)
add("bind-of-a-nul", "22021", up_to_sync(P2, raw_bind(counts(0, 2), FIVE, struct.pack("!i", 2), b"a\0", counts(0))))
add("bind-without-results", "08P01", up_to_sync(P1, raw_bind(counts(0, 1), FIVE)))
add("bind-with-more-behind-it", "08P01", up_to_sync(P1, raw_bind(counts(0, 1), FIVE, counts(0), b"more")))
add("bind-of-65535-formats", "08P01", up_to_sync(P1, raw_bind(counts(65_535), counts(1) * 65_535)))
add("bind-without-ends", "08P01", up_to_sync(P1, message("B", b"no end")))
add("bind-with-one-end", "08P01", up_to_sync(P1, message("B", b"portal\0statement")))
add("bind-of-no-bytes", "08P01", up_to_sync(P1, message("B")))
add("parse-without-ends", "08P01", up_to_sync(message("P", b"name")))
add("parse-with-one-end", "08P01", up_to_sync(message("P", b"name\0SELECT 1")))
add("parse-without-types", "08P01", up_to_sync(message("P", b"\0SELECT 1\0")))
add("parse-of-too-few-types", "08P01", up_to_sync(message("P", b"\0SELECT 1\0\0\2\0\0\0\x17")))
add("parse-of-too-many-types", "08P01", up_to_sync(message("P", b"\0SELECT 1\0\0\1\0\0\0\x17\0\0\0\x17")))
add(
    "parse-of-65535-types",
    "08P01: the Bind has none",
    up_to_sync(parse("SELECT 1", types=(23,) * 65_535), bind(), execute()),
)
add("parse-of-no-bytes", "08P01", up_to_sync(message("P")))
add("parse-of-no-encoding", "22021", up_to_sync(message("P", b"\0SELECT '\xff'\0\0\0")))
add("describe-without-an-end", "08P01", up_to_sync(message("D", b"Sname")))
add("describe-of-a-strange-kind", "08P01", up_to_sync(message("D", b"X\0")))
add("describe-of-no-bytes", "08P01", up_to_sync(message("D")))
add("describe-with-more-behind-it", "08P01", up_to_sync(parse("SELECT 1"), message("D", b"S\0more")))
add("close-without-an-end", "08P01", up_to_sync(message("C", b"Sname")))
add("close-of-a-strange-kind", "08P01", up_to_sync(message("C", b"X\0")))
add("close-of-no-bytes", "08P01", up_to_sync(message("C")))
add("execute-without-an-end", "08P01", up_to_sync(message("E", b"name")))
add("execute-without-a-limit", "08P01", up_to_sync(parse("SELECT 1"), bind(), message("E", b"\0")))
add("execute-with-half-a-limit", "08P01", up_to_sync(parse("SELECT 1"), bind(), message("E", b"\0\0\0")))
add("execute-with-more-behind-it", "08P01", up_to_sync(parse("SELECT 1"), bind(), message("E", b"\0\0\0\0\0more")))
add("sync-with-a-body", "08P01", up_to_sync(message("S", b"body")))
add("flush-with-a-body", "08P01", up_to_sync(message("H", b"body")))


def fatal(data: bytes, *, closing: bool = False) -> Script:
    """What ends the session: nothing can be trusted behind it. `closing`: nothing comes behind it, either."""

    async def script(talk: Talk) -> None:
        await talk.plain()
        await talk.log_in()
        talk.send(data)
        if closing:
            await talk.end()
        await talk.rest()

    return script


def header(kind: str, length: int) -> bytes:
    """A type and a length, and no more."""
    return kind.encode() + struct.pack("!i", length)


add("message-of-no-type", "08P01", fatal(message("z")))
add("message-of-type-0", "08P01", fatal(message("\0")))
add("message-of-type-255", "08P01", fatal(b"\xff\0\0\0\4"))
add("message-of-no-type-and-no-length", "08P01", fatal(b"z"))
add("message-of-a-backend", "08P01", fatal(message("T", b"\0\0")))
add("password-after-the-login", "08P01", fatal(message("p", b"secret\0")))
add("startup-after-the-login", "08P01", fatal(struct.pack("!ii", 9, 0x30000) + b"\0"))
add("length-of-0", "cannot be", fatal(header("Q", 0)))
add("length-of-3", "cannot be", fatal(header("Q", 3)))
add("length-that-is-negative", "cannot be", fatal(header("Q", -1)))
add("length-over-a-gib", "too long for a query", fatal(header("Q", 0x4000_0000)))
add("length-of-200-mb", "a query that may be too long here", fatal(header("Q", 200_000_000), closing=True))
add("length-of-a-long-sync", "10,000 is as long as may be", fatal(header("S", 10_001)))
add("length-of-a-long-describe", "10,000 is as long as may be", fatal(header("D", 10_001)))
add("length-of-a-long-copy-fail", "10,000 is as long as may be", fatal(header("f", 10_001)))
