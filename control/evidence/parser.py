"""The worker that parses SQL: `python -m control.evidence.parser`. Only `control.evidence.parsing` starts it.

Two processes. The outer one loads libpg_query and then does nothing but fork the inner one and, where that dies of a
text, say so and fork another: a text that crashes the parser costs milliseconds, not the start of an interpreter. Both
are poor: little memory, no files, no core, the lowest priority.
"""

import mmap
import os
import resource
import signal
import sys
from collections.abc import Callable

import msgspec

from control.evidence.parsed import Parsed
from control.evidence.parsing import DIED, LENGTH

MEMORY_BYTES = 1 << 30
IDLE, BUSY = 0, 1
_INPUT, _OUTPUT = 0, 1


def main(cpu_s: float) -> None:
    """Serve until the input ends. A text may take so many seconds of the processor."""
    _be_poor()
    from control.evidence.classification import classify  # noqa: PLC0415 loaded within the limits

    busy = mmap.mmap(-1, 1)
    while True:
        child = os.fork()
        if child == 0:
            _serve(classify, busy, cpu_s)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return
        if busy[0] == BUSY:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            _write(LENGTH.pack(0) + DIED.pack(number))


def _be_poor() -> None:
    os.nice(19)
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _serve(classify: Callable[[bytes], Parsed], busy: mmap.mmap, cpu_s: float) -> None:
    """Answer one text after the other. A fault of Python's ends the process like one of the parser's."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it kills: nothing in Python runs while libpg_query does
    encode = msgspec.msgpack.Encoder().encode
    try:
        while (head := _read(LENGTH.size)) is not None:
            (size,) = LENGTH.unpack(head)
            busy[0] = BUSY
            sql = _read(size)
            if sql is None:
                return
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            answer = encode(classify(sql))
            signal.setitimer(signal.ITIMER_PROF, 0)
            _write(LENGTH.pack(len(answer)) + answer)
            busy[0] = IDLE
    except BaseException:  # noqa: BLE001 the process's edge: whatever it was, the other one says that it died
        os._exit(1)


def _read(size: int) -> bytes | None:
    """Exactly so many bytes; None where the input ends before."""
    parts = []
    while size:
        part = os.read(_INPUT, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(_OUTPUT, view) :]


if __name__ == "__main__":
    try:
        main(float(sys.argv[1]))
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(0)
