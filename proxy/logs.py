"""How the service logs: structlog, one JSON object a line, or readable lines for a terminal. Never a token or a key.

The log is no evidence (the journal is), and must not keep anything from happening: a line that cannot be written, or
would have to wait, is lost and counted.
"""

import io
import logging
import os
import select
import sys
from typing import Literal, TextIO, cast

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Sink:
    """Standard error, as far as it takes lines at once. Never raises, never waits: a full disk, a pipe nobody reads."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._cut = False
        """The last line that got out is half a line."""
        self.lost = 0
        """Lines that did not get out."""

    def write(self, text: str) -> None:
        """Write a line, newline and all, in one piece where it is not long: workers share the stream."""
        data = left = ("\n" * self._cut + text).encode("utf-8", "backslashreplace")
        try:
            descriptor = sys.stderr.fileno()
            self._poll.register(descriptor, select.POLLOUT)
            while left:
                if not self._poll.poll(0):
                    raise BlockingIOError
                # What is ready takes so much without waiting: pipe(7).
                left = left[os.write(descriptor, left[: select.PIPE_BUF]) :]
        except io.UnsupportedOperation:  # a stream in memory
            sys.stderr.write(text)
        except (OSError, ValueError):
            self.lost += 1
            self._cut = self._cut or len(left) < len(data)
        else:
            self._cut = False

    def flush(self) -> None:
        """Nothing is held."""


SINK = Sink()


def configure(level: str, form: Literal["json", "console"]) -> None:
    """Log to standard error from `level` on. The standard library's own loggers go the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    if form == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        # The default would show each frame's local variables, and one of them may be a token or a password.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", SINK)),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=shared
    )
    handler = logging.StreamHandler(SINK)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
