"""What of a client's stream may still go on to PostgreSQL when no new statement may begin. Sans IO.

What runs may need more of the client: a COPY its data and their end, the extended protocol its Sync or Flush. Terminate
begins nothing either. Anything else shuts the gate: it would begin something, and what comes behind it belongs to that.
"""

COPY_DATA = ord("d")
_STILL = frozenset(b"cfSHX")
"""CopyDone, CopyFail, Sync, Flush, Terminate."""
_HEADER = 5


def first(messages: list[tuple[int, bytes]], count: int) -> list[tuple[int, bytes]]:
    """The first `count` of these, and what is said of CopyData in front of each and behind the last one."""
    for at, (kind, _) in enumerate(messages):
        if kind == COPY_DATA:
            continue
        if count == 0:
            return messages[:at]
        count -= 1
    return messages


class Gate:
    """One session's, from the moment on in which no statement may begin."""

    __slots__ = ("_copy_left", "shut")

    def __init__(self, copy_left: int) -> None:
        """`copy_left`: how many bytes of a CopyData are still to come (`FrontendFramer.copy_left`)."""
        self._copy_left = copy_left
        self.shut = False
        """The client has asked for more than what runs: nothing of it goes on any more."""

    def passes(self, data: bytes) -> tuple[int, int]:
        """How many bytes of `data` may go on, and how many messages that are not CopyData they hold.

        `data` is what FrontendFramer lets go on: whole messages, and CopyData as far as it has come.
        """
        at, count, size = 0, 0, len(data)
        while not self.shut and at < size:
            if self._copy_left:
                taken = min(self._copy_left, size - at)
                self._copy_left -= taken
                at += taken
                continue
            kind, length = data[at], int.from_bytes(data[at + 1 : at + _HEADER])
            if kind == COPY_DATA:
                self._copy_left = length - 4
                at += _HEADER
            elif kind in _STILL:
                count += 1
                at += 1 + length
            else:
                self.shut = True
        return at, count
