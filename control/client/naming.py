"""Finding the thing that a person means by an id, or by the beginning of one."""

from typing import Any, Literal

from control.client.api import Api, segment
from control.client.errors import AnsweredError, ClientError

LISTED = 1_000
SHOWN = 5
NOT_AN_ID = (404, 422)


def find(api: Api, kind: Literal["requests", "grants", "sessions", "locks"], text: str) -> Any:  # noqa: ANN401 JSON
    """The JSON of the one with this id, or else of the only one listed whose id begins so (with `req_` or without).

    Raises ClientError where there is none, or more than one.
    """
    try:
        return api.get(f"/v1/{kind}/{segment(text)}")
    except AnsweredError as error:
        if error.status not in NOT_AN_ID:
            raise
        items = api.page(f"/v1/{kind}", limit=LISTED).items
        matches = [item for item in items if _begins(str(item.get("id", "")), text)]
        if not matches:
            raise
        if len(matches) > 1:
            ids = ", ".join(str(item["id"]) for item in matches[:SHOWN])
            raise ClientError(
                f"{text} is the beginning of {len(matches)} ids: {ids}", hint="give more of it"
            ) from error
        return matches[0]


def _begins(identity: str, text: str) -> bool:
    return bool(text) and (identity.startswith(text) or identity.partition("_")[2].startswith(text))
