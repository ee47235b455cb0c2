"""Verifying a bundle: its sessions against their chains, signatures and the log's head; the head against older ones."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from control.client import checking, heads, screen
from control.client.bundle import MANIFEST, README, Claim, Manifest, Reader, proof_name, records_name
from control.client.checking import Checked
from control.client.errors import ClientError
from control.client.heads import LogKey, verified
from control.client.journals import Journals
from control.client.reporting import Report
from control.client.transparency import LogChecked, LogFaultError, check_begins_with, faulty, prove_session
from control.client.wording import count
from proxy.contract.checkpoint import Checkpoint
from proxy.contract.merkle import ProofError


def verify_bundle(path: Path, keys: Sequence[Ed25519PublicKey], log: LogKey | None, older: Sequence[Path]) -> Report:
    """All that the bundle claims, with these keys, or its own."""
    with Reader(path) as bundle:
        manifest = bundle.manifest
        key = log or heads.parse_key(manifest.log.key)
        checked = LogChecked(origin=key.origin, key=key.text, pinned=log is not None)
        head = None
        try:
            head = _head(manifest, key)
            checked = _described(checked, head)
            for file in older:
                checked = _begins_with(checked, manifest, head, key, heads.given_head(file))
        except LogFaultError as error:
            checked = faulty(checked, error)
        found = _Found()
        sessions = [_session(bundle, claim, keys, head, found) for claim in manifest.sessions]
        if checked.fault is None and head is not None:
            checked = _whole(checked, bundle, head, found.leaves)
    _note_keys(keys, log)
    return Report(log=checked, sessions=sessions, journals=found.journals.check(full=manifest.full))


@dataclass(frozen=True, slots=True)
class _Found:
    """What the sessions add up to."""

    leaves: list[int] = field(default_factory=list)
    """The places of their records in the log."""
    journals: Journals = field(default_factory=Journals)


def _note_keys(keys: Sequence[Ed25519PublicKey], log: LogKey | None) -> None:
    missing = [name for name, given in (("--proxy-key", bool(keys)), ("--log-key", log is not None)) if not given]
    if missing:
        screen.note(
            f"NOT PINNED: {' and '.join(missing)} not given, so the bundle's own keys were used: whoever made it may "
            "have made them too"
        )


def _head(manifest: Manifest, key: LogKey) -> Checkpoint:
    try:
        return verified(manifest.log.head, key)
    except ProofError as error:
        own = "" if manifest.log.key == key.text else " (the bundle is of a log with a foreign key)"
        raise LogFaultError(f"the bundle's head is not signed by the log's key{own}: {error}") from error


def _described(checked: LogChecked, head: Checkpoint) -> LogChecked:
    return msgspec.structs.replace(checked, size=head.size, root=base64.b64encode(head.root).decode())


def _begins_with(checked: LogChecked, manifest: Manifest, head: Checkpoint, key: LogKey, old: str) -> LogChecked:
    """Hold the bundle's head against an older one."""
    try:
        before = verified(old, key)
    except ProofError as error:
        raise LogFaultError(f"the older head is not signed by the log's key: {error}", old) from error
    hashes: list[str] | None = [] if before.size in (0, head.size) or before.size > head.size else None
    for earlier in manifest.earlier:
        if hashes is None and _size(earlier.head, key) == before.size:
            hashes = earlier.hashes
    if hashes is None:
        raise LogFaultError(
            f"the bundle cannot show that the log still has all of its older head of {before.size} records: export it "
            "again, with --head FILE",
            old,
            manifest.log.head,
        )
    check_begins_with(head, before, hashes, manifest.log.head, old)
    return msgspec.structs.replace(checked, begins_with=[*checked.begins_with, before.size])


def _size(note: str, key: LogKey) -> int:
    try:
        return verified(note, key).size
    except ProofError:
        return -1


def _session(
    bundle: Reader, claim: Claim, keys: Sequence[Ed25519PublicKey], head: Checkpoint | None, found: _Found
) -> Checked:
    """One session, which is added to what was `found`."""
    own = keys or [checking.public_key(key) for key in bundle.manifest.proxies.get(claim.proxy or "", [])]
    if records_name(claim.id) not in bundle.names:
        return _missing(claim)
    examined = checking.examine(bundle.lines(records_name(claim.id)), own, session=claim.id)
    found.journals.add(claim.proxy, examined)
    if head is None:
        return examined.checked
    try:
        answer = bundle.json(proof_name(claim.id), dict[str, Any])
        leaves, proven = prove_session(answer, head)
    except (LogFaultError, ClientError) as error:
        return examined.checked if examined.checked.fault else _unproven(examined.checked, str(error))
    found.leaves.extend(leaves)
    return checking.against_log(examined, proven)


def _missing(claim: Claim) -> Checked:
    fault = f"the session is missing: the bundle claims {count(claim.records, 'record')} of it, and has none"
    return Checked(
        session=claim.id,
        records=0,
        statements=0,
        proxy=claim.proxy,
        refused=False,
        signature="not checked",
        fault=fault,
        seq=0,
    )


def _unproven(checked: Checked, why: str) -> Checked:
    return msgspec.structs.replace(checked, fault=f"not proven to be in the log: {why}", seq=None)


def _whole(checked: LogChecked, bundle: Reader, head: Checkpoint, covered: list[int]) -> LogChecked:
    """Whether the bundle is what it claims to be: no more files, and in a full one every record of the log."""
    manifest = bundle.manifest
    known = {README, MANIFEST}
    for claim in manifest.sessions:
        known |= {records_name(claim.id), proof_name(claim.id)}
    if strange := sorted(bundle.names - known):
        return faulty(checked, LogFaultError(f"the bundle has a file that it does not claim: {strange[0]}"))
    if len({claim.id for claim in manifest.sessions}) != len(manifest.sessions):
        return faulty(checked, LogFaultError("the bundle claims a session twice"))
    if not manifest.full:
        return checked
    covered.sort()
    if (first := next((at for at, leaf in enumerate(covered) if at != leaf), len(covered))) < head.size:
        lacking = head.size - len(covered)
        fault = f"a session is missing: {count(lacking, 'record')} of the log, from number {first} on, are in none here"
        return faulty(checked, LogFaultError(fault))
    return checked
