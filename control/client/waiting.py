"""Waiting for a request to be decided: a long poll that outlasts a network's hiccups. Never decides what comes next."""

import time
from collections.abc import Callable

from control.client.answers import Request, read
from control.client.api import Api, segment
from control.client.errors import AnsweredError, ClientError, UnreachableError

POLL_S = 30
PAUSE_S = 2.0
"""Between two tries, and between two answers that came at once."""
GIVE_UP_S = 120.0
"""How long the service may be out of reach."""
BUSY = (429, 502, 503, 504)
PENDING = "pending"


def until_decided(
    api: Api,
    request: Request,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Request:
    """The request, no longer pending. Raises ClientError when the service stays away for GIVE_UP_S."""
    heard = clock()
    while request.state == PENDING:
        asked = clock()
        try:
            answer = api.get(f"/v1/requests/{segment(request.id)}", wait_s=POLL_S, patience_s=POLL_S)
            request, heard = read(Request, answer), clock()
        except ClientError as error:
            if not passing(error) or clock() - heard > GIVE_UP_S:
                raise
        if request.state == PENDING and clock() - asked < PAUSE_S:
            sleep(PAUSE_S)
    return request


def approved(request: Request) -> str:
    """The grant that a decided request led to. Raises ClientError where it led to none."""
    if request.state == "approved" and request.grant:
        return request.grant
    by = f" by {request.decided_by}" if request.decided_by else ""
    why = f": {request.comment}" if request.comment else ""
    raise ClientError(f"request {request.id} was not approved: {request.state}{by}{why}")


def passing(error: ClientError) -> bool:
    """Whether trying again later may help."""
    return isinstance(error, UnreachableError) or (isinstance(error, AnsweredError) and error.status in BUSY)
