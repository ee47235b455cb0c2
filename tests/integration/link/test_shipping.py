"""The journal on its way to control: at least once, in order, and what happens when control says no."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.responses import Response

from proxy import segments
from proxy.contract.directive import Joining
from proxy.contract.proof import public_text
from proxy.contract.record import Chain, Notice
from proxy.control_client import ANSWER_BYTES, ControlClient
from proxy.identity import load_or_create
from proxy.shipping import BATCH_BYTES, BATCH_LINES, FAULTS_FILE, Shipper
from proxy.tasks import spawn
from tests.harness.disks import Disk
from tests.harness.waiting import eventually, never
from tests.integration.link.conftest import Proxy
from tests.integration.link.stand_in import JOIN_TOKEN, StandIn, problem


class Writer:
    """Writes a session's records and remembers them."""

    def __init__(self, proxy: Proxy) -> None:
        self._journal = proxy.journal
        self._chain = Chain("ses_1")
        self.lines: list[bytes] = []

    def write(self, count: int = 1, text: str = "soon") -> None:
        """Append so many."""
        for _ in range(count):
            line = self._chain.seal(Notice(severity="NOTICE", sqlstate="00000", message=text))
            self.lines.append(line)
            self._journal.append(line)


@pytest.fixture
def writer(proxy: Proxy) -> Writer:
    """Somebody with something to say."""
    return Writer(proxy)


@contextlib.asynccontextmanager
async def shipping(proxy: Proxy) -> AsyncIterator[Shipper]:
    """A shipper of a joined proxy, with short waits."""
    key = load_or_create(proxy.state_dir)
    client = ControlClient(url=proxy.url, ca_file=proxy.ca_file, name="p1", key=key, silence_s=10)
    joining = Joining(name="p1", join_token=JOIN_TOKEN, public_key=public_text(key.public_key()))
    await client.join(joining)
    shipper = Shipper(proxy.journal, client.post_records, poll_s=0.01, first_wait_s=0.02, refused_wait_s=0.05)
    task = spawn("shipper under test", shipper.run())
    try:
        yield shipper
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.close()


def all_acknowledged(proxy: Proxy) -> Callable[[], bool]:
    """Whether control has everything, by the journal's own account."""
    return lambda: proxy.journal.acknowledged == proxy.journal.position


async def test_link_ships_the_journal(control: StandIn, proxy: Proxy, writer: Writer) -> None:
    """What is appended before and after the join reaches control byte for byte and in order, over many segments."""
    writer.write(300)
    async with proxy.running() as link:
        await eventually(lambda: control.lines == writer.lines)
        writer.write(300)
        await eventually(lambda: control.lines == writer.lines)
        await eventually(all_acknowledged(proxy))
        await eventually(lambda: segments.load_position(proxy.journal.directory) == proxy.journal.position)
        assert link.shipper.shipped_lines == 600
        assert link.shipper.stuck is None
    assert len(segments.numbers(proxy.journal.directory)) > 3


async def test_batches_keep_to_their_bounds(control: StandIn, proxy: Proxy, writer: Writer) -> None:
    """Many short lines, and single lines longer than a batch."""
    writer.write(10)
    writer.write(2, "x" * (BATCH_BYTES + 10_000))
    writer.write(10)
    async with shipping(proxy):
        await eventually(all_acknowledged(proxy))
    assert control.lines == writer.lines
    assert max(control.posts) <= BATCH_LINES
    assert 1 in control.posts


async def test_control_that_is_away_gets_everything_when_it_is_back(
    control: StandIn, proxy: Proxy, writer: Writer
) -> None:
    """The journal waits; meanwhile `stuck` says why."""
    async with shipping(proxy) as shipper:
        await control.stop()
        writer.write(50)
        await eventually(lambda: shipper.failures >= 2)
        assert "cannot be reached" in str(shipper.stuck)
        await control.start()
        await eventually(all_acknowledged(proxy))
        assert control.lines == writer.lines
        await eventually(lambda: shipper.stuck is None)


@pytest.mark.parametrize("status", [401, 408, 429, 500, 503])
async def test_passing_refusals_are_tried_again(control: StandIn, proxy: Proxy, writer: Writer, status: int) -> None:
    """Nothing is skipped, nothing is doubled."""
    control.answers.extend(problem(status) for _ in range(3))
    writer.write(50)
    async with shipping(proxy) as shipper:
        await eventually(all_acknowledged(proxy))
    assert shipper.failures == 3
    assert control.lines == writer.lines


async def test_lost_answer_means_shipping_again(control: StandIn, proxy: Proxy, writer: Writer) -> None:
    """At least once: control stored it, the proxy does not know, control says that it is known."""
    control.forgetful = 2
    writer.write(50)
    async with shipping(proxy):
        await eventually(all_acknowledged(proxy))
    assert sum(control.posts) == 150
    assert control.lines == writer.lines


async def test_fault_is_set_aside_and_holds_up_nobody(control: StandIn, proxy: Proxy, writer: Writer) -> None:
    """409: the one line goes into faults.ndjson, every other one reaches control."""
    writer.write(100)
    bad = writer.lines[37]
    control.refuse = lambda line: problem(409) if line == bad else None
    async with shipping(proxy) as shipper:
        await eventually(all_acknowledged(proxy))
    assert control.lines == [line for line in writer.lines if line != bad]
    assert shipper.faults == 1
    assert (proxy.journal.directory / FAULTS_FILE).read_bytes() == bad + b"\n"


@pytest.mark.parametrize("status", [400, 413, 422, 403, 404])
async def test_lasting_refusal_is_loud_and_waits_for_somebody(
    control: StandIn, proxy: Proxy, writer: Writer, status: int
) -> None:
    """Nothing is passed over and nothing deleted; once control takes the line, all goes on."""
    writer.write(100)
    bad = writer.lines[37]
    control.refuse = lambda line: problem(status) if line == bad else None
    async with shipping(proxy) as shipper:
        await eventually(lambda: shipper.refusals >= 2)
        assert f"control answered {status}" in str(shipper.stuck)
        assert proxy.journal.acknowledged < proxy.journal.position
        control.refuse = lambda _line: None
        await eventually(all_acknowledged(proxy))
        assert shipper.stuck is None
    assert control.lines == writer.lines


@pytest.mark.parametrize("status", [400, 413])
async def test_refused_line_alone_is_held_back(control: StandIn, proxy: Proxy, writer: Writer, status: int) -> None:
    """Halving the batch brings everything before the refused line to control."""
    writer.write(100)
    bad = writer.lines[37]
    control.refuse = lambda line: problem(status) if line == bad else None
    async with shipping(proxy) as shipper:
        await eventually(lambda: shipper.refusals >= 1)
        assert control.lines == writer.lines[:37]


async def test_answer_for_fewer_records_is_no_acknowledgement(control: StandIn, proxy: Proxy, writer: Writer) -> None:
    """A 200 that does not account for every line moves nothing."""
    control.miscounts = True
    writer.write(10)
    before = proxy.journal.acknowledged
    async with shipping(proxy) as shipper:
        await eventually(lambda: shipper.refusals >= 2)
        assert proxy.journal.acknowledged == before


@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"stored":"1","known":0}', b"x" * (ANSWER_BYTES + 1)])
async def test_answer_that_is_none_is_no_acknowledgement(
    control: StandIn, proxy: Proxy, writer: Writer, body: bytes
) -> None:
    """Whatever stands between the proxy and control said 200."""
    control.answers.append(Response(body))
    writer.write(10)
    async with shipping(proxy) as shipper:
        await eventually(all_acknowledged(proxy))
    assert shipper.failures + shipper.refusals == 1
    assert control.lines == writer.lines


async def test_nothing_new_is_not_shipped_again(control: StandIn, proxy: Proxy, writer: Writer) -> None:
    """Neither while it runs nor after a restart."""
    writer.write(10)
    async with shipping(proxy):
        await eventually(all_acknowledged(proxy))
    async with shipping(proxy):
        await never(lambda: len(control.posts) > 1, during=0.2)


async def test_full_segments_are_acknowledged_to_their_end(control: StandIn, proxy: Proxy, writer: Writer) -> None:
    """When the newest segment is still empty, the position is in it: retention may take the full one."""
    async with shipping(proxy):
        while proxy.journal.position.offset or proxy.journal.position.segment == 1:
            writer.write()
        await eventually(all_acknowledged(proxy))
        assert proxy.journal.acknowledged.offset == 0
    assert control.lines == writer.lines


async def test_nothing_is_shipped_before_it_is_on_disk(
    control: StandIn, proxy: Proxy, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control had what the death of the machine then took, and called what was written instead of it a fraud."""
    disk = Disk(monkeypatch)
    writer.write(10)
    async with shipping(proxy):
        await eventually(lambda: disk.syncs == 1)
        writer.write(10)
        await never(lambda: bool(control.lines), during=0.1)
        disk.let.release()
        await eventually(lambda: control.lines == writer.lines[:10] and disk.syncs == 2)
        await never(lambda: len(control.lines) > 10, during=0.1)
        disk.let.release(100)
        await eventually(all_acknowledged(proxy))
    assert control.lines == writer.lines


async def test_what_cannot_be_synced_is_not_shipped(
    control: StandIn, proxy: Proxy, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal fails closed, as after any sync that fails; what was on disk before reaches control all the same."""
    writer.write(10)
    over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    proxy.journal.sync(over.set_result)
    assert await over is None
    writer.write(10)
    disk = Disk(monkeypatch)
    disk.let.release(100)
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
    async with shipping(proxy) as shipper:
        await eventually(lambda: shipper.failures >= 1)
        disk.error = None
        await eventually(lambda: shipper.failures >= 3)
        assert "restart the proxy" in str(shipper.stuck)
        assert proxy.journal.fault is not None
    assert control.lines == writer.lines[:10]
