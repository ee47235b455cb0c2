"""Re-execution, `curfew replay SESSION... --against DSN`: what is run, whether it may be, and what came of it.

This is the one part of the command that speaks to a database, with the person's own login, never with anything of the
service's. It runs what was recorded, and that can do harm: so nothing runs that is not verified or not complete, on a
database that may be the very one, or unasked.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import asyncpg
import msgspec
import typer

from control.client import rerun_report, screen
from control.client.errors import ClientError
from control.client.rerun_connection import log_in
from control.client.rerun_order import Conductor, without_lacking
from control.client.rerun_report import Report
from control.client.rerun_rounds import Round, Statement, rounds
from control.client.rerun_source import Log, Logs

FAILED = 1
SHOWN = 20
"""So many statements that cannot be run are named."""
TEXT = 100
_WHERE = """
SELECT current_database() AS database, current_user AS login, version() AS version,
       pg_postmaster_start_time() AS started, coalesce(host(inet_server_addr()), 'a unix socket') AS host,
       inet_server_port() AS port, pg_is_in_recovery() AS standby,
       coalesce(current_setting('curfew.person', true), '') AS curfew
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the person asked for."""

    against: str
    grant: str | None = None
    proxy_keys: Sequence[str] = ()
    skip_unknown: bool = False
    dry_run: bool = False
    yes: bool = False
    force: bool = False
    json: bool = False


class Plan(msgspec.Struct, kw_only=True):
    """What there is to run."""

    sessions: int
    statements: int = 0
    cut: int = 0
    lacking: list[tuple[str, int, str]] = []
    """Session, statement, and why it cannot be run."""
    lacking_count: int = 0


def rerun(named: Sequence[str], options: Options) -> None:
    """Run these sessions again. Ends with exit code 1 where anything differs. Raises ClientError."""
    with Logs(named, grant=options.grant, keys=options.proxy_keys) as logs:
        plan = make_plan(logs.all, _told if options.dry_run and not options.json else _untold)
        if options.dry_run:
            _show_plan(plan, options)
            return
        if plan.lacking_count and not options.skip_unknown:
            raise _incomplete(plan)
        report, against = asyncio.run(_run(logs.all, plan, options))
    left_out = plan.lacking_count
    rerun_report.show(report, against=against, left_out=left_out, cut=plan.cut, json=options.json)
    if not report.equal:
        raise typer.Exit(FAILED)


def make_plan(logs: Sequence[Log], tell: Callable[[Log, Round, Statement], None]) -> Plan:
    """Read all, run nothing. Each statement is told."""
    plan = Plan(sessions=len(logs))
    for log in logs:
        for asked in rounds(log.records(), log.surveyed):
            for statement in asked.statements:
                tell(log, asked, statement)
                if asked.cut:
                    plan.cut += 1
                elif statement.lacks is None:
                    plan.statements += 1
                else:
                    plan.lacking_count += 1
                    if len(plan.lacking) < SHOWN:
                        plan.lacking.append((log.session, statement.number, statement.lacks))
    return plan


def to_run(log: Log) -> Iterator[Round]:
    """The session's rounds that are run: all but what was cut short, and what is not all on record."""
    for asked in rounds(log.records(), log.surveyed):
        whole = without_lacking(asked)
        if whole.steps and not asked.cut:
            yield whole


def _told(log: Log, asked: Round, statement: Statement) -> None:
    how = f" ({statement.lacks})" if statement.lacks else " (cut short: not run)" if asked.cut else ""
    joined = "+" if asked.statements[0] is not statement else " "
    screen.say(f"{log.session} {joined}#{statement.number} {statement.sql[:TEXT]}{how}")


def _untold(log: Log, asked: Round, statement: Statement) -> None:
    del log, asked, statement


def _show_plan(plan: Plan, options: Options) -> None:
    if options.json:
        screen.dump(msgspec.to_builtins(plan))
    else:
        left = f", {plan.lacking_count} of which not all is on record" if plan.lacking_count else ""
        cut = f", {plan.cut} cut short by a session's end and not to be run" if plan.cut else ""
        screen.say(f"{plan.statements} statements to run, of {plan.sessions} sessions{left}{cut}")
    if plan.lacking_count and not options.skip_unknown:
        raise typer.Exit(FAILED)


def _incomplete(plan: Plan) -> ClientError:
    named = [f"{session} #{number}: {why}" for session, number, why in plan.lacking]
    more = [f"and {plan.lacking_count - len(named)} more"] if plan.lacking_count > len(named) else []
    return ClientError(
        f"not all that is needed was recorded: {'; '.join([*named, *more])}",
        hint="--skip-unknown leaves these statements out; what builds on them will differ",
    )


async def _run(logs: Sequence[Log], plan: Plan, options: Options) -> tuple[Report, str]:
    monitor = await log_in(options.against, {"application_name": "curfew replay"})
    try:
        where = await _where(monitor)
        against = f"{where['database']} at {where['host']}{':' + str(where['port']) if where['port'] else ''}"
        _must_be_another(where, logs, options)
        others = {log.start.upstream_user for log in logs} - {where["login"]}
        if others:
            screen.note(
                f"the sessions were logged in as {', '.join(sorted(others))}, this login is {where['login']}: rights, "
                "owners and role settings will differ"
            )
        _must_be_wanted(plan, f"{against}, as {where['login']} ({str(where['version']).partition(' on ')[0]})", options)
        report = Report()
        await Conductor(options.against, monitor, report).run([(log, to_run(log)) for log in logs])
    finally:
        monitor.terminate()
    return report, against


async def _where(monitor: "asyncpg.Connection[asyncpg.Record]") -> asyncpg.Record:
    try:
        found = await monitor.fetchrow(_WHERE)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise ClientError(f"the database does not say what it is: {error}") from error
    assert found is not None, "it is one row"
    return found


def _must_be_another(where: asyncpg.Record, logs: Sequence[Log], options: Options) -> None:
    """Refuse what can be the sessions' own database; nothing on record says for sure what it is."""
    if where["standby"]:
        raise ClientError("that server is a standby: nothing can be written there")
    if options.force:
        return
    if where["curfew"]:
        raise ClientError(
            f"that way leads through Curfew, to a target, as {where['curfew']}", hint="connect to a clone directly"
        )
    for log in logs:
        ran_then = where["started"] <= datetime.fromisoformat(log.start.backend_start)
        if where["database"] == log.start.database and ran_then:
            raise ClientError(
                f"that may be the very database that session {log.session} was in: it is called {where['database']} "
                "too, and its server was running then",
                hint="use a clone with another name or on a server of its own; --force says that you know better",
            )


def _must_be_wanted(plan: Plan, where: str, options: Options) -> None:
    if options.yes:
        return
    what = f"{plan.statements} statements of {plan.sessions} sessions will be executed in {where}"
    if not sys.stdin.isatty():
        raise ClientError(what, hint="on a terminal you would be asked; --yes says so beforehand")
    screen.prompt(f"{what}. Go on? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ClientError("nothing was run")
