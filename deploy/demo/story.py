"""The story, from the asking to the evidence. `tell` is its table of contents."""

from deploy.demo import endings, evidence, work
from deploy.demo.play import Play, Step
from deploy.demo.stage import DATABASES, Granted, Stage
from deploy.demo.watch import watching


def tell(stage: Stage, play: Play) -> None:
    """Play every scene. Raises StepFailedError at the first that does not hold."""
    with play.step("a request is made and approved") as step:
        granted = ask(stage, step)
    with watching(stage) as watch:
        with play.step("a wrong token is refused") as step:
            work.refuse_wrong_token(granted, step)
        with play.step("psql connects through TLS with the token") as step:
            work.connect_psql(granted, step)
        with play.step("asyncpg connects through TLS with the token") as step:
            work.connect_asyncpg(stage, granted, step)
        with play.step("pgbench's schema is loaded through the proxy") as step:
            work.load_pgbench(granted, watch, step)
        with play.step("pgbench runs through the proxy") as step:
            work.run_pgbench(granted, watch, step)
        with play.step("pg_dump round-trips through the proxy") as step:
            work.dump_and_restore(stage, granted, step)
        with play.step("Ctrl-C cancels a query") as step:
            work.cancel(granted, watch, step)
        with play.step("the grant ends in the middle of an UPDATE") as step:
            endings.expire_mid_update(stage, watch, step)
        with play.step("a revoked grant ends its session") as step:
            endings.revoke(stage, watch, step)
    with play.step("the records of all sessions reach the control service") as step:
        found = evidence.sessions(stage)
        step.found = f"{len(found)} sessions"
    with play.step("the replay shows what happened") as step:
        evidence.replay(stage, found, step)
    with play.step("verify finds the log whole") as step:
        evidence.verify(stage, found, step)
    with play.step("verify finds what was tampered with") as step:
        evidence.tamper(stage, found, step)


def ask(stage: Stage, step: Step) -> Granted:
    """dba1 asks for both databases; dba1 cannot approve it, alice does."""
    dba1, alice = stage.people["dba1"], stage.people["alice"]
    granted = stage.granted(lasts="1h", reason="INC-1042: orders stuck in 'open'", databases=DATABASES)
    own = dba1.curfew("request", "orders", "readonly", "--reason", "may I?").split()[0]
    step.show(dba1.refused("approve", own))
    alice.curfew("deny", own, "--comment", "you have a grant")
    step.show(alice.curfew("requests"))
    step.found = f"grant {granted.id}"
    return granted
