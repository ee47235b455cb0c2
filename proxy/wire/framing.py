"""Messages out of bytes, in both directions: the Cython framers, or their Python twin where those were not built.

`FrontendFramer(limit)` (client to upstream): `feed(data)` gives `(messages, forward)`. `messages` are `(type, body)` of
every message that is now complete, CopyData left out; `forward` is exactly what may go upstream: those messages and
CopyData as far as it has come. Nothing else goes on before it is whole, because its record is written first. What is
held back (`pending`) never exceeds `limit` (the length word's, for Q P B F; 10,000 for C D E H S X c f, as PostgreSQL).

`BackendFramer()` (upstream to client): `feed(data)` gives `(type, body, end)` of C Z E I s 1 G H W S t K V v, with
`end` being the stream offset behind each; a body is cut to KEEP. An E is preceded by a 2 whose body counts (big-endian)
how many 2, 3, n and T have come since the last message handed up, S left out, unless none have: what is answered so
matters only when something fails. Nothing is held back: `boundary` is where the last complete message ended, the only
place at which a message of ours may be put in.

CopyData costs no object for a row. In both directions a message that is handed up behind some is preceded by a `d`
whose body is how many bytes of their contents there have been in the stream (`copy_bytes`, 8 bytes, big-endian): so the
data of one COPY is told from the next one's. With `data=True` a `d` is the contents themselves, of as many messages as
stand together in what was fed, whole or not; end to end they are all of it.

Both end in `error` at a header that cannot be trusted: they answer what came before it, then nothing. They never
raise. CURFEW_FRAMER=cython or =python forces one.
"""

import os
from typing import TYPE_CHECKING

__all__ = ["IMPLEMENTATION", "KEEP", "BackendFramer", "FrontendFramer"]

_forced = os.environ.get("CURFEW_FRAMER", "")
if _forced not in ("", "cython", "python"):
    raise ImportError(f"CURFEW_FRAMER is {_forced!r}: it must be cython or python")

if TYPE_CHECKING or _forced == "python":
    from proxy.wire._framing_py import KEEP, BackendFramer, FrontendFramer

    IMPLEMENTATION = "python"
else:
    try:
        from proxy.wire._framing import KEEP, BackendFramer, FrontendFramer

        IMPLEMENTATION = "cython"
    except (ImportError, ValueError):  # not built here, or (ValueError) built on another asyncpg's layout
        if _forced == "cython":
            raise
        from proxy.wire._framing_py import KEEP, BackendFramer, FrontendFramer

        IMPLEMENTATION = "python"
