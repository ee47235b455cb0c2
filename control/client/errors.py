"""The one error that the command reports in plain words, and how control's own errors (RFC 9457) become it.

Never prints; `cli.main` does.
"""

from typing import Any

import msgspec

NEXT_STEP = {
    401: "run `curfew login`, or check CURFEW_API_KEY",
    403: "`curfew whoami` shows your roles",
    404: "`curfew requests`, `curfew grants` and `curfew sessions` show what you can see",
    409: "look at its present state with `curfew requests`, `curfew grants` or `curfew sessions`",
    423: "`curfew locks` shows the lock; who may lock may lift it",
    422: "the command's --help shows what it takes",
    429: "wait a moment, then try again",
}
SERVER_SIDE = "try again in a moment; if it stays, the control service's log says why"
SERVER_ERRORS = 500


class ClientError(Exception):
    """Something that a person can act on: what went wrong, and `hint`, what to do next."""

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class UnreachableError(ClientError):
    """The service did not answer at all. Trying again later may help."""


class AnsweredError(ClientError):
    """The service refused: its HTTP status, and its problem details in words."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text, hint=SERVER_SIDE if status >= SERVER_ERRORS else NEXT_STEP.get(status, ""))
        self.status = status


def from_problem(status: int, body: bytes) -> AnsweredError:
    """The error in an `application/problem+json` body; a body that is none still gives its status."""
    try:
        problem: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    title = _text(problem.get("title")) or f"the service answered with HTTP status {status}"
    detail = _text(problem.get("detail"))
    return AnsweredError(f"{title}: {detail}" if detail and detail != title else title, status=status)


def _text(value: object) -> str:
    """A problem's member as text. Validation errors may come as a list of objects that have a `msg`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(str(entry.get("msg", entry) if isinstance(entry, dict) else entry) for entry in value)
    return ""
