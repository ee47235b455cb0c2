"""What names a session: its connection, its chain of records, its place among those that control counts."""

import os
import time


def new_session_id() -> str:
    """A UUIDv7 (RFC 9562): sorts by time, 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    text = f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
