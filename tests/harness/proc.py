"""What the kernel tells of other processes, proc(5). Any of them may end while it is read: no error, nothing found."""

from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """The pids of the process's children; none once it is gone."""
    with suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def open_files(pid: int) -> list[str]:
    """What it has open, as far as that was still open when it was its turn."""
    found: list[str] = []
    with suppress(OSError):
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.append(str(one.readlink()))
    return found


def runs(pid: int) -> bool:
    """Whether it runs: one that is dead does not, though nobody may have asked for its status yet."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False
