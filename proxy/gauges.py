"""What operators are shown of a process that serves: its gauges, and why no connections should be sent here.

It reads what others own, whenever somebody asks, and changes nothing.
"""

from proxy import logs, tasks
from proxy.lobby import Lobby
from proxy.shared import Shared


def show(shared: Shared, lobby: Lobby) -> None:
    """Add to the metrics what is read only when somebody asks."""
    metrics, journal = shared.metrics, shared.journal
    metrics.gauge("curfew_sessions_live", "Sessions admitted and not over.", lambda: len(shared.registry))
    metrics.gauge("curfew_unauthenticated", "Connections without a token yet.", lambda: len(lobby))
    metrics.gauge("curfew_journal_bytes", "The journal's size.", lambda: journal.total_bytes)
    metrics.gauge(
        "curfew_journal_unacknowledged_bytes", "What control does not have yet.", lambda: journal.unacknowledged_bytes
    )
    metrics.gauge(
        "curfew_journal_retained_bytes", "What control has, and `retention_s` keeps.", lambda: journal.retained_bytes
    )
    metrics.counter("curfew_journal_syncs", "Syncs that somebody waited for.", lambda: journal.syncs)
    metrics.counter("curfew_log_lines_lost", "Lines that the log did not take.", lambda: logs.SINK.lost)
    metrics.gauge("curfew_lease", "1 while control can be heard.", shared.has_lease)
    metrics.gauge("curfew_tasks", "Tasks that run.", tasks.running)


def faults(shared: Shared) -> list[str]:
    """Why no connections should be sent here."""
    found = [] if shared.authority() is not None else ["no key set: control was never reached"]
    found += [] if shared.has_lease() else ["no lease: control cannot be heard"]
    found += [f"the journal: {shared.journal.fault}"] if shared.journal.fault else []
    ready = {name: any(one.ready for one in link.keepers.values()) for name, link in shared.targets.items()}
    found += [f"target {name}: no keeper" for name in ready if not ready[name]]
    for name, link in shared.targets.items():
        why = {why for keeper in link.keepers.values() for why in keeper.unendable.values()}
        found += [f"target {name}: sessions are refused: {one}" for one in sorted(why)]
    return found
