"""How fast a proxy ships: a journal that waits, and a control that answers at once, so that the shipper alone counts.

That control is a server of TLS and HTTP in a process of its own (`python -m tests.bench.journal.shipping PORT-FILE
CERTIFICATE KEY`), which counts lines and keeps nothing. CPU time is that of the process that ships, which in a proxy is
the sessions' too. Every batch is synced before it goes, as always.
"""

import asyncio
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from proxy.control_client import ControlClient
from proxy.identity import load_or_create
from proxy.journal import Journal
from proxy.shipping import Shipper
from tests.bench.cases import Amount, Case, Measured
from tests.bench.results import Result
from tests.bench.ways import CURFEW
from tests.harness.certs import Authority
from tests.harness.processes import Process
from tests.harness.waiting import eventually

NEEDED = "full load"
"""Beside it: what one proxy makes."""
FULL_LOAD = 57_000.0
"""Records a second, by `python -m tests.bench journal ingest` on the machine of the README."""
LINE = b"x" * 300
LINES_A_SECOND = 100_000
"""So many wait, for each second that a measurement is to take."""


def _unmeasured(*_: object) -> Measured:
    raise NotImplementedError("it is measured by itself")


SHIPPING = Case(name="shipping", metric="shipping", unit="records/s", measure=_unmeasured)


class _AtOnce(asyncio.Protocol):
    """Answers each post of records with the number of its lines."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()
        self._left = 0
        self._lines = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, found, data = bytes(self._head).partition(b"\r\n\r\n")
            if not found:
                return
            self._head = bytearray()
            fields = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
            self._left = next(int(value) for name, _, value in fields if name == b"content-length")
            self._lines = 0
        self._left -= len(data)
        self._lines += data.count(b"\n")
        if not self._left and self._transport is not None:
            answer = b'{"stored":%d,"known":0}' % self._lines
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))


async def _serve(port_file: Path, certificate: str, key: str) -> None:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(certificate, key)
    server = await asyncio.get_running_loop().create_server(_AtOnce, "127.0.0.1", 0, ssl=trust)
    port_file.write_text(f"{server.sockets[0].getsockname()[1]}\n")
    await server.serve_forever()


def measure(amount: Amount, rounds: int, say: Callable[[str], None]) -> list[Result]:
    """The rate, beside the one that is needed."""
    result = Result(case=SHIPPING)
    for number in range(1, rounds + 1):
        folder = Path(tempfile.mkdtemp(prefix="curfew-bench-"))
        try:
            rate, cpu = asyncio.run(_round(folder, LINES_A_SECOND * (amount.seconds or 1)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        result.add(NEEDED, FULL_LOAD, None)
        result.add(CURFEW, rate, cpu)
        say(f"shipping  round {number}/{rounds}  {rate:.0f}/s, {cpu * 1e6:.2f} microseconds of the processor each")
    return [result]


def missed(found: list[Result]) -> list[str]:
    """The aim, where it is not reached."""
    return [one.case.name for one in found if one.case is SHIPPING and one.ratios[NEEDED] <= 1]


async def _round(folder: Path, lines: int) -> tuple[float, float]:
    """Lines a second, and CPU seconds for each."""
    authority = Authority(folder)
    files = authority.server(folder=folder)
    port_file = folder / "port"
    journal = Journal.open(folder / "journal", segment_bytes=1 << 26, limit_bytes=1 << 32)
    for _ in range(lines):
        journal.append_lazily(LINE)
    journal.flush()
    command: list[str | Path] = [sys.executable, "-m", __name__, port_file, files.certificate, files.key]
    with Process(command):
        await eventually(lambda: port_file.exists() and port_file.read_text().endswith("\n"), within=60)
        url = f"https://localhost:{port_file.read_text().strip()}"
        key = load_or_create(folder)
        client = ControlClient(url=url, ca_file=str(authority.file), name="proxy", key=key, silence_s=60)
        shipper = Shipper(journal, client.post_records)
        cpu, began = time.process_time(), time.monotonic()
        await shipper.finish()
        took, spent = time.monotonic() - began, time.process_time() - cpu
        await client.close()
    journal.close()
    assert (shipper.shipped_lines, shipper.failures) == (lines, 0)
    return lines / took, spent / lines


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), *sys.argv[2:]))
