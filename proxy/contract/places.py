"""Places: how control counts a grant's sessions over all proxies (DESIGN.md 4.5), and hears who is there. Shapes only.

`POST /v1/grants/{grant_id}/places` takes a place for one session, before it is admitted. `POST /v1/presence` says, from
each process of a proxy at least every HEARTBEAT_S, that it is there and which of its sessions have a place: control
gives the others of this process back. So an answer that was lost, or a process that died, costs no place for ever.
"""

from typing import Annotated, TypeAlias

import msgspec

MOST_LISTED = 1_000
"""Sessions in one Present. A process that has more lists none, and knows none: their records give places back."""

Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Wanted(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A place for a session. To ask again for the same session is to ask for the same place."""

    session: Id
    holder: Id
    """Which of the proxy's processes: `proxy` itself, or `worker-K`."""
    run: Id
    """Which run of it: another one after each start."""


class Counted(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to `Wanted`."""

    admitted: bool
    number: int
    """The place's own. Numbers only grow; 0 where there is no place."""


class Present(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What one process has. Places of this run up to `known` whose sessions are not listed are given back.

    Whoever lists its sessions knows no higher number than that of a place which it has asked for before. So a message
    that is late, or comes twice, never takes the place of a session that began in the meantime.
    """

    holder: Id
    run: Id
    known: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    sessions: Annotated[list[Id], msgspec.Meta(max_length=MOST_LISTED)]
    alone: bool
    """Nothing of this process's earlier runs lives any more: their places are given back too."""


class Heard(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to `Present`."""

    newest: int
    """The newest place's number, anybody's: what the next `known` may be."""
