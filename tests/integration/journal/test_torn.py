"""A proxy that starts on a journal whose last line a crash has torn."""

import signal

from proxy.contract.record import JournalTorn, SessionEnd, SessionStart, decode
from proxy.contract.verification import verify_chain
from proxy.identity import load_or_create
from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id

TORN = b'{"type":"statement.start","v":1,"sess'


def restart(proxy: Proxy) -> None:
    """Kill it, and start it again."""
    assert proxy.process is not None
    proxy.signal(signal.SIGKILL)
    proxy.process.stop()
    proxy.start()


async def test_the_break_is_a_record(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Signed, in its journal's chain of sessions; once, however often the proxy starts; the session gets its end."""
    proxy = make_proxy(postgres)
    grant = new_grant_id()
    connection = await proxy.connect(proxy.token(id=grant))
    await connection.fetchval("SELECT 1")
    assert proxy.process is not None
    proxy.signal(signal.SIGKILL)
    proxy.process.stop()
    connection.terminate()
    segment = max((proxy.state / "journal").glob("*.ndjson"))
    whole = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(TORN)
    proxy.start()
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    restart(proxy)
    breaks = [line for line in proxy.lines() if isinstance(decode(line), JournalTorn)]
    (line,) = breaks
    assert verify_chain([line], load_or_create(proxy.state).public_key()) == 1
    record = decode(line)
    assert isinstance(record, JournalTorn)
    assert (record.segment, record.offset, record.bytes) == (int(segment.stem), whole, len(TORN))
    assert record.entry is not None
    starts = [one for one in map(decode, proxy.lines()) if isinstance(one, SessionStart)]
    assert [one.entry.number for one in starts if one.entry is not None] == [0]
    assert record.entry.number == 1
