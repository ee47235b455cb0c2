"""A COPY of 1 GB, in and out, its data on record or not: what the proxy holds of it, and that all of it is there."""

import asyncio
import hashlib
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from proxy import segments
from proxy.contract.record import CopyData, decode
from tests.bench.pressure.finding import Finding
from tests.bench.pressure.stand import DATABASE, Stand, Way
from tests.harness.roles import APP
from tests.harness.waiting import eventually

MEGABYTES = 1_000
AIM_MB = 16
"""However long the COPY is."""
DIRECTIONS = ("in", "out")
KINDS = ("none", "full")
"""What the profile says of `copy_data`."""
TABLE = "sink"
ENDS_S = 60.0
_ROW_BYTES, _ROWS_A_CHUNK = 1_000, 128
_KB_A_MB = 1_000


Digests: TypeAlias = "dict[str, hashlib._Hash]"
"""Of the data, by direction."""


def _digests() -> Digests:
    return {direction: hashlib.sha256() for direction in DIRECTIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What it took."""

    direction: str
    grown_kb: int
    """The most that the proxy had in memory at any time, above what it had before."""
    seconds: float


def _reset_peak(pid: int) -> int:
    """Have the kernel forget the peak (proc(5), clear_refs); what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status_kb(pid, "VmRSS")


def _status_kb(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


async def there_and_back(way: Way, megabytes: int, data: Digests) -> list[Transfer]:
    """COPY so much in and out again: what it took. What went and what came goes into `data`."""
    assert way.proxy.process is not None
    pid = way.proxy.process.pid

    async def rows() -> AsyncIterator[bytes]:
        filler = "x" * (_ROW_BYTES - 13)
        for begin in range(0, megabytes * 1_000_000 // _ROW_BYTES, _ROWS_A_CHUNK):
            chunk = "".join([f"{begin + row:012}{filler}\n" for row in range(_ROWS_A_CHUNK)]).encode()
            data["in"].update(chunk)
            yield chunk

    async def take(piece: bytes) -> None:
        data["out"].update(piece)

    connection = await way.proxy.connect(way.token, database=f"orders/{DATABASE}")
    await connection.execute(f"TRUNCATE {TABLE}")
    found = []
    for direction in DIRECTIONS:
        before, began = _reset_peak(pid), time.monotonic()
        if direction == "in":
            await connection.copy_to_table(TABLE, source=rows())
        else:
            await connection.copy_from_table(TABLE, output=take)
        took = time.monotonic() - began
        grown = _status_kb(pid, "VmHWM") - before
        found.append(Transfer(direction=direction, grown_kb=grown, seconds=took))
    await connection.close()
    live = "curfew_sessions_live"
    await eventually(lambda: way.proxy.metrics()[live] == 0, within=ENDS_S, what="the end of the session")
    return found


def recorded(way: Way) -> Digests:
    """What is on record. It is read line by line, for it may be longer than the memory."""
    digests = _digests()
    journal = way.proxy.state / "journal"
    for number in segments.numbers(journal):
        with segments.path_of(journal, number).open("rb") as file:
            for line in file:
                if b'"copy.data"' in line and isinstance(record := decode(line), CopyData):
                    digests[record.direction].update(b64decode(record.base64))
    return digests


async def measured(stand: Stand, kind: str, megabytes: int, say: Callable[[str], None]) -> list[Finding]:
    """One kind of profile, in a new process."""
    app = {"user": APP.user, "password": {"command": ["echo", APP.password]}, "copy_data": kind}
    journal = {"limit_bytes": max(1 << 30, 4 * megabytes * 1_000_000)}
    with stand.proxy(tls=True, target={"access": {"app": app}}, journal=journal) as way:
        data = _digests()
        await there_and_back(way, 1, data)  # code paths taken and pools filled, once
        transfers = await there_and_back(way, megabytes, data)
        kept = await asyncio.to_thread(recorded, way)
    assert data["out"].digest() == data["in"].digest(), "what came out is not what went in"
    expected = data if kind == "full" else _digests()
    found = []
    for one in transfers:
        what = f"COPY {one.direction.upper()} of {megabytes} MB, copy_data {kind}"
        say(f"copies  {what}: {one.seconds:.0f} s, {megabytes / one.seconds:.0f} MB/s")
        other = kept[one.direction].digest() != expected[one.direction].digest()
        found += [
            Finding(what=f"{what}: memory", measured=one.grown_kb / _KB_A_MB, unit="MB", aim=AIM_MB),
            Finding(what=f"{what}: other bytes on record", measured=float(other), unit="", aim=0),
        ]
    return found


async def measure(stand: Stand, say: Callable[[str], None]) -> list[Finding]:
    """All of them."""
    return [one for kind in KINDS for one in await measured(stand, kind, MEGABYTES, say)]
