"""Admission: whether a connection becomes a session. The token first, then the grant, then what is in force here.

Owns the two questions and the note of every refusal: in the log, the metric and, where the token was one of ours, the
journal. It counts no sessions (see `proxy.registry`), tells the client nothing (see `proxy.session`) and never speaks
to PostgreSQL.
"""

import time
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from proxy import replication
from proxy.contract.grant import Grant, Refusal
from proxy.contract.record import AuthRefused
from proxy.contract.settings import AccessProfile
from proxy.contract.token import TokenRefusedError, Verified, verify_with_key
from proxy.errors import NotAdmitted
from proxy.journal import JournalError
from proxy.peer import Peer
from proxy.recorder import Recorder
from proxy.shared import Shared, TargetLink
from proxy.wire import messages
from proxy.wire.startup import StartupMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where an admitted session leads."""

    link: TargetLink
    profile: AccessProfile
    database: str
    """Empty for physical replication, which is in no database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What it takes to judge one connection."""

    shared: Shared
    recorder: Recorder
    peer: Peer
    startup: StartupMessage
    log: FilteringBoundLogger

    def verify(self, token: str) -> Verified:
        """The grant that `token` proves. Raises NotAdmitted."""
        authority = self.shared.authority()
        if authority is None:
            raise self.refused(NotAdmitted(Refusal.UNKNOWN_KEY, "no key set yet"))
        try:
            return verify_with_key(
                token, keys=authority.keys, issuer=authority.issuer, audience=authority.audience, now=time.time()
            )
        except TokenRefusedError as error:
            raise self.refused(NotAdmitted(error.refusal, str(error), grant=error.grant_id)) from error

    def judge(self, grant: Grant, *, certificate: str | None) -> Way:
        """Hold the connection, with its client certificate's thumbprint, against `grant` and against what is in force.

        Raises NotAdmitted.
        """
        target, database = replication.destination(self.startup, grant)
        link = self.shared.targets.get(target)
        if database == "" and link is not None:
            database = link.settings.database
        refusal = grant.refuses(
            user=self.startup.user,
            target=target,
            database=database,
            address=self.peer.address,
            certificate=certificate,
        )
        if refusal is None:
            refusal = self._refused_here(grant, link)
        if refusal is not None or link is None:
            raise self.refused(_not_admitted(refusal or Refusal.WRONG_TARGET, grant, link))
        return Way(link=link, profile=link.settings.access[grant.profile], database=database or "")

    def _refused_here(self, grant: Grant, link: TargetLink | None) -> Refusal | None:
        if link is None:
            return Refusal.WRONG_TARGET
        if grant.profile not in link.settings.access:
            return Refusal.UNKNOWN_PROFILE
        if link.settings.lost_lease != "run-on" and not self.shared.has_lease():
            return Refusal.NO_LEASE
        profile = link.settings.access[grant.profile]
        if self.startup.replication is not None and not replication.allowed(grant, profile):
            return Refusal.REPLICATION
        return None

    def refused(self, error: NotAdmitted) -> NotAdmitted:
        """Note a refusal: in the log and the metric, and in the journal where the token was one of ours."""
        user = messages.sanitise(self.startup.user)
        database = messages.sanitise(self.startup.database)
        self.log.warning("access refused", refusal=str(error.refusal), user=user, database=database, grant=error.grant)
        self.shared.metrics.refused[error.refusal] += 1
        if error.grant is not None:
            record = AuthRefused(
                refusal=str(error.refusal),
                user=self.startup.user,
                database=self.startup.database,
                address=str(self.peer),
                grant=error.grant,
            )
            try:
                self.recorder.refuse(record)
            except JournalError as failure:
                self.log.error("a refusal could not be recorded", error=str(failure))  # noqa: TRY400 expected
        return error


def _not_admitted(refusal: Refusal, grant: Grant, link: TargetLink | None) -> NotAdmitted:
    if refusal is Refusal.REPLICATION and link is not None:
        return replication.not_allowed(grant, link.settings.access[grant.profile])
    return NotAdmitted(refusal, grant=grant.id)
