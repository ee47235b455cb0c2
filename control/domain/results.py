"""What a rule answers: `Success(value)` or `Failure(reason, detail)`. A rule never raises for a user's mistake."""

import enum
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

Value = TypeVar("Value")


class Reason(enum.StrEnum):
    """Why something is not done. Stable words: they are part of the API, in a problem's `type`."""

    INVALID = "invalid"
    NOT_FOUND = "not-found"
    FORBIDDEN = "forbidden"
    OWN_REQUEST = "own-request"
    WRONG_STATE = "wrong-state"
    CONFLICT = "conflict"
    NOT_ACTIVE = "not-active"
    LOCKED = "locked"
    OWN_LOCK = "own-lock"
    TOKEN_TOO_LONG = "token-too-long"  # noqa: S105 a word of the API, not a secret
    LOG_DAMAGED = "log-damaged"
    BUSY = "busy"
    NOT_READY = "not-ready"
    BAD_JOIN_TOKEN = "bad-join-token"  # noqa: S105 a word of the API, not a secret


@dataclass(frozen=True, slots=True)
class Success(Generic[Value]):
    """The rule holds, and this is what follows from it."""

    value: Value


@dataclass(frozen=True, slots=True)
class Failure:
    """The rule does not hold. `detail` is for the person who asked, and says what to do where it can."""

    reason: Reason
    detail: str


Result: TypeAlias = Success[Value] | Failure


def first_failure(*results: Result[Any]) -> Failure | None:
    """The first of `results` that is a failure."""
    return next((result for result in results if isinstance(result, Failure)), None)
