"""Having SQL parsed, in a process of its own: libpg_query crashes on some valid SQL, and what comes here is hostile.

The worker is `python -m control.evidence.parser`. It answers one text after the other with what it is, and many may lie
in the pipe before it; a text that it dies of, or takes too long over, gets a label instead, and the next one finds a
fresh worker. It inherits nothing:
no environment, no descriptors but its pipes. This module never looks into SQL.
"""

import asyncio
import contextlib
import os
import signal
import struct
import sys
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from control.evidence.parsed import MOST_BYTES, Label, Parsed

CPU_S: Final = 5.0
"""What a text may take of the processor."""
ANSWER_S: Final = 60.0
"""And by the clock, on a machine that has no processor for it."""
STOP_S: Final = 5.0
LENGTH: Final = struct.Struct("!I")
MOST_ANSWER: Final = 16 << 20
DIED: Final = struct.Struct("!B")
"""Behind a length of 0: the signal (or 0) that a text's parser has died of."""
_AT_ONCE: Final = MOST_BYTES + LENGTH.size

log = structlog.get_logger(__name__)
_decoder = msgspec.msgpack.Decoder(Parsed)


class ParserError(Exception):
    """No worker can be had. Says why."""


class Parser:
    """One worker, started when it is first needed. Whoever calls takes turns."""

    def __init__(self, *, cpu_s: float = CPU_S, answer_s: float = ANSWER_S) -> None:
        self._cpu_s = cpu_s
        self._answer_s = answer_s
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def parse(self, sql: bytes) -> Parsed:
        """What the text is. Raises ParserError where the worker does not come up."""
        return (await self.parse_all([sql]))[0]

    async def parse_all(self, texts: Sequence[bytes]) -> list[Parsed]:
        """What each of the texts is. Raises ParserError where the worker does not come up."""
        found: list[Parsed] = []
        async with self._turn:
            while len(found) < len(texts):
                if len(texts[len(found)]) > MOST_BYTES:
                    found.append(Parsed(label=Label.LONG))
                else:
                    found += await self._some(_part(texts, len(found)))
        return found

    async def _some(self, texts: Sequence[bytes]) -> list[Parsed]:
        """What the first of the texts are; how many, depends on what they do to the worker."""
        for _ in range(2):  # a worker that somebody else has killed says nothing about the text
            fresh = self._process is None
            process = self._process or await self._start()
            found: list[Parsed] = []
            try:
                _ask(process, texts)
                await _answers(process, found, most=len(texts), patience_s=self._answer_s)
            except TimeoutError:
                await self._end()
                return [*found, Parsed(label=Label.TIMEOUT)]
            except (EOFError, OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                await self._end()
                log.warning("the parser has died", why=str(error), fresh=fresh)
            except asyncio.CancelledError:
                await self._end()  # its answers would be taken for the next texts'
                raise
            if found:
                return found
        return [Parsed(label=Label.CRASHED)]

    async def close(self) -> None:
        """End the worker."""
        async with self._turn:
            await self._end()

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "control.evidence.parser", str(self._cpu_s)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                cwd="/",
                start_new_session=True,
                limit=_AT_ONCE,
            )
        except OSError as error:
            raise ParserError(f"the parser cannot be started: {error}") from error
        self._process = process
        try:
            _ask(process, [b""])  # it says that it is ready
            await _answers(process, [], most=1, patience_s=self._answer_s)
        except (TimeoutError, EOFError, OSError) as error:
            await self._end()
            raise ParserError("the parser does not start: is postgast installed?") from error
        return process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _part(texts: Sequence[bytes], start: int) -> Sequence[bytes]:
    """Those from `start` on that are asked about at once, the first one in any case."""
    end, size = start + 1, len(texts[start])
    while end < len(texts) and (size := size + len(texts[end])) <= MOST_BYTES:
        end += 1
    return texts[start:end]


def _ask(process: asyncio.subprocess.Process, texts: Sequence[bytes]) -> None:
    """Ask about each, without waiting: they are few enough to lie here until the worker takes them."""
    assert process.stdin is not None
    process.stdin.write(b"".join(LENGTH.pack(len(one)) + one for one in texts))


async def _answers(process: asyncio.subprocess.Process, found: list[Parsed], *, most: int, patience_s: float) -> None:
    """Take answers until there are enough. Raises EOFError where the worker is gone, TimeoutError if it is silent."""
    assert process.stdout is not None
    unread = b""
    while len(found) < most:
        async with asyncio.timeout(patience_s):
            more = await process.stdout.read(_AT_ONCE)
        if not more:
            raise EOFError("it has ended")
        unread = _take(unread + more, found)


def _take(unread: bytes, found: list[Parsed]) -> bytes:
    """Take the answers that are whole; what is left."""
    start = 0
    while len(unread) >= start + LENGTH.size:
        (size,) = LENGTH.unpack_from(unread, start)
        if size > MOST_ANSWER:
            raise EOFError(f"an answer of {size} bytes")
        begin = start + LENGTH.size
        end = begin + (size or DIED.size)
        if len(unread) < end:
            break
        found.append(_decoder.decode(unread[begin:end]) if size else _dead(*DIED.unpack_from(unread, begin)))
        start = end
    return unread[start:]


def _dead(number: int) -> Parsed:
    """What is said of a text that the parser has died of, by this signal."""
    if number in (signal.SIGKILL, signal.SIGTERM):
        raise EOFError(f"killed by signal {number}")
    return Parsed(label=Label.TIMEOUT if number == signal.SIGPROF else Label.CRASHED)
