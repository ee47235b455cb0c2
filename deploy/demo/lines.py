"""What the demo prints while it stays up: lines to copy into another terminal, one set for each person."""

import shutil

from deploy.demo.stage import Granted, Stage
from tests.harness.binaries import postgresql_bin
from tests.harness.waiting import eventually_sync


def for_everybody(stage: Stage, granted: Granted) -> str:
    """How to connect, and what each of the three can do."""
    dba1, alice, audrey = (stage.people[name] for name in ("dba1", "alice", "audrey"))
    psql = dba1.curfew("token", granted.id, "--format", "psql").strip()
    sessions = eventually_sync(lambda: audrey.listed("sessions", "--grant", granted.id), what="control has the session")
    session = sessions[0]["id"]
    return f"""
Curfew is up. PostgreSQL {stage.postgres.port}, control {stage.control_url}, the proxy {stage.proxy_port}; metrics at
http://127.0.0.1:{stage.ops_port}/metrics, logs and all else in {stage.folder}. Ctrl-C ends it and removes everything.

dba1 may be on orders for an hour. In another terminal:
{_find_psql()}
    {psql}

dba1 asks for more, and connects once it is approved:

    {dba1.prefix} connect orders readonly --for 15m --reason 'look at the numbers'

alice approves, and takes access back:

    {alice.prefix} requests --state pending
    {alice.prefix} approve REQUEST
    {alice.prefix} revoke {granted.id} --reason 'enough'

audrey looks at what was done, and that it is all of it:

    {audrey.prefix} sessions
    {audrey.prefix} replay {session}
    {audrey.prefix} verify {session}
"""


def _find_psql() -> str:
    """Where PATH has no psql: the line that puts ours into it."""
    return "" if shutil.which("psql") else f"\n    export PATH={postgresql_bin()}:$PATH"
