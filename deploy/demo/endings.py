"""Scenes in which access ends while somebody works: the backend goes, nothing of its work stays, the person is told."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from deploy.demo.play import Step
from deploy.demo.stage import Stage
from deploy.demo.watch import Watch
from deploy.demo.work import keywords, refused, variables
from tests.harness.binaries import postgresql_bin
from tests.harness.processes import Process

LIMIT_S = 1.0
"""What is promised: from the end of access to the end of the backend."""
LASTS = "10s"
UPDATE = "UPDATE orders SET note = 'changed by dba1' WHERE pg_sleep(0.01) IS NOT NULL"
"""1,000 rows, one after the other: 10 s and more, so that a grant of 10 s always ends before it does."""
CHANGED = "SELECT count(*) FROM orders WHERE note = 'changed by dba1'"


def expire_mid_update(stage: Stage, watch: Watch, step: Step) -> str:
    """The grant ends while an autocommit UPDATE runs. Returns the grant's id."""
    granted = stage.granted(lasts=LASTS, reason="a quick correction")
    command: list[str | Path] = [postgresql_bin() / "psql", "-X", "-c", UPDATE]
    with Process(command, environment=variables(granted, "demo-update")) as psql:
        pid = watch.writing("demo-update")
        took = watch.gone(pid) - granted.expires_at
        psql.wait()
        said = psql.output
    changed = watch.value(CHANGED)
    step.found = f"the backend was gone {_ms(took)} after the grant's end, {changed} of 1000 rows changed"
    step.show(said)
    assert 0 <= took < LIMIT_S, step.found
    assert changed == 0, step.found
    assert "access to orders has ended: the grant has expired" in said, said
    return granted.id


def revoke(stage: Stage, watch: Watch, step: Step) -> str:
    """An approver takes the grant back while a transaction is open. Returns the grant's id."""
    granted = stage.granted(lasts="10m", reason="tidying up")
    alice = stage.people["alice"]
    with psycopg.connect(make_conninfo(**keywords(granted, "demo-revoke"))) as session, ThreadPoolExecutor(1) as pool:
        session.execute("UPDATE orders SET note = 'changed by dba1' WHERE id <= 500")
        pid = session.info.backend_pid
        revoking = pool.submit(alice.curfew, "revoke", granted.id, "--reason", "the wrong database")
        gone_at = watch.gone(pid)
        revoking.result()
        try:
            session.execute("COMMIT")
        except psycopg.errors.AdminShutdown as error:
            step.show(str(error))
        else:
            raise AssertionError("the COMMIT went through")
    ended = next(one for one in alice.listed("grants", "--state", "revoked") if one["id"] == granted.id)
    took = gone_at - datetime.fromisoformat(ended["revoked_at"]).timestamp()
    changed = watch.value(CHANGED)
    step.found = f"the backend was gone {_ms(took)} after the decision, {changed} of 500 rows changed; "
    step.found += "the token is refused"
    assert took < LIMIT_S, step.found
    assert changed == 0, step.found
    refused(granted, granted.environment["PGPASSWORD"])
    return granted.id


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
