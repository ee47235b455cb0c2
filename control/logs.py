"""Logging: structlog to stderr, as JSON or for a terminal; the libraries' own loggers go the same way.

Never logged: tokens, keys, join tokens, request bodies, query strings.
"""

import contextlib
import logging
import sys
from typing import Literal, TextIO, cast

import structlog


class _Sink:
    """Standard error. A line that it does not take (a full disk) is lost; what was to be done is done all the same."""

    def write(self, text: str) -> None:
        """Write a line, newline and all."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Have it written."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


_SINK = _Sink()


def configure(*, level: Literal["debug", "info", "warning", "error"], form: Literal["json", "console"]) -> None:
    """Set up logging for the process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    # Both defaults would print the locals of every frame, and there is a token in some frame.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _SINK)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_SINK)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    # uvicorn's and SQLAlchemy's own words are of interest only where something is wrong.
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
