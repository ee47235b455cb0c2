"""Scenes in which an auditor sees what was done, makes sure that it is all, and finds what was changed since."""

from collections.abc import Mapping
from typing import Any

import httpx2

from deploy.demo.play import Step
from deploy.demo.stage import Stage
from proxy.contract.record import StatementStart, decode
from tests.harness.waiting import eventually_sync

WITHIN_S = 30.0
MANY = "1000"

EXPECTED: Mapping[str, tuple[str, ...]] = {
    "demo-psql": ("> SELECT current_user", "SUCCESS (4 rows", "END closed"),
    "demo-asyncpg": ("WHERE total < $1", "$1 = ", "SUCCESS (8 rows"),
    "demo-load": ("> copy pgbench_accounts from stdin", "COPY in, ", "> alter table pgbench_accounts add primary key"),
    "demo-cancel": ("> SELECT pg_sleep(60)", "CANCEL ", "ERROR 57014 canceling statement due to user request"),
    "demo-update": ("> UPDATE orders SET note", "END expired; #1 was running; open work: ", "backend gone "),
    "demo-revoke": (
        "DECISION alice approved it",
        "> UPDATE orders SET note",
        "SUCCESS (500 rows",
        "ROLLED BACK transaction 1: 2 statements, 500 rows",
        "END revoked by alice: 'the wrong database'; open work: ",
    ),
}
"""What the replay of a session must show, by the application's name."""
SHOWN = ("demo-cancel", "demo-update", "demo-revoke")


def sessions(stage: Stage) -> list[dict[str, Any]]:
    """Every session that the proxy's journal has, refused ones too, once control has the last record of each."""
    recorded = {decode(line).session for line in journal(stage).splitlines()}
    audrey = stage.people["audrey"]

    def at_control() -> list[dict[str, Any]]:
        admitted = audrey.listed("sessions", "--limit", MANY)
        found = admitted + audrey.listed("sessions", "--state", "refused", "--limit", MANY)
        whole = {one["id"] for one in found if one["state"] != "open"}
        return found if whole == recorded else []

    return eventually_sync(at_control, within=WITHIN_S, what="control has every session's end")


def journal(stage: Stage) -> bytes:
    """The proxy's own log, all of it."""
    segments = sorted((stage.folder / "proxy" / "journal").glob("*.ndjson"))
    return b"".join(segment.read_bytes() for segment in segments)


def replay(stage: Stage, found: list[dict[str, Any]], step: Step) -> None:
    """`curfew replay` of every kind of session shows the SQL, the results, the cancel and the end."""
    for application, expected in EXPECTED.items():
        told = stage.people["audrey"].curfew("replay", _session(found, application))
        missing = [text for text in expected if text not in told]
        assert not missing, f"{application}: {missing} are not in\n{told}"
        if application in SHOWN:
            step.show(told)
    step.found = f"{len(EXPECTED)} sessions, {len(SHOWN)} of them here"


def verify(stage: Stage, found: list[dict[str, Any]], step: Step) -> None:
    """`curfew verify`: with what control has, and offline with the proxy's own journal and its public key."""
    audrey = stage.people["audrey"]
    for application in SHOWN:
        said = audrey.curfew("verify", _session(found, application))
        assert said.startswith("ok: "), said
        step.show(said)
    own = stage.folder / "journal.ndjson"
    own.write_bytes(journal(stage))
    lines = audrey.curfew("verify", str(own), "--public-key", public_key(stage)).splitlines()
    assert all(line.startswith("ok: ") for line in lines), "\n".join(lines)
    assert len(lines) == len(found), f"{len(lines)} sessions in the journal, {len(found)} at control"
    faults = [one["id"] for one in found if one["faults"]]
    assert not faults, f"control has noted faults in {faults}"
    step.found = f"all {len(lines)} sessions whole, {sum(one['records'] for one in found):,} records"


def tamper(stage: Stage, found: list[dict[str, Any]], step: Step) -> None:
    """Copies of one session's records, each changed in one way: the check names the first record that is not right."""
    lines = records(stage, _session(found, "demo-revoke"))
    at = next(number for number, line in enumerate(lines) if b"UPDATE orders" in line)
    assert isinstance(decode(lines[at]), StatementStart)
    edited = [*lines[:at], lines[at].replace(b"UPDATE orders", b"SELECT orders"), *lines[at + 1 :]]
    copies = {
        f"record {at} edited": (edited, f", record {at + 1}: the record before it was changed"),
        f"record {at} deleted": ([*lines[:at], *lines[at + 1 :]], f", record {at}: it is missing"),
        "the last record cut off": (lines[:-1], f", record {len(lines) - 1}: the session has no end"),
        "another last record": (
            [*lines[:-1], lines[-1].replace(b'"revoked"', b'"expired"')],
            f", record {len(lines) - 1}: the last record is not signed by this proxy",
        ),
    }
    for what, (copy, expected) in copies.items():
        path = stage.folder / "copy.ndjson"
        path.write_bytes(b"".join(line + b"\n" for line in copy))
        said = stage.people["audrey"].refused("verify", str(path), "--public-key", public_key(stage))
        assert said.startswith("BAD: "), f"{what}: {said}"
        assert expected in said, f"{what}: {said}"
        step.show(f"{what}: {said}")


def records(stage: Stage, session: str) -> list[bytes]:
    """A session's records as control gives them to an auditor, byte for byte."""
    return _get(stage, f"/v1/sessions/{session}/records").content.splitlines()


def public_key(stage: Stage) -> str:
    """The key that the proxy signs with."""
    return str(_get(stage, "/v1/proxies").json()["items"][0]["public_key"])


def _get(stage: Stage, path: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {stage.people['audrey'].api_key}"}
    context = stage.authority.client_context()
    with httpx2.Client(base_url=stage.control_url, verify=context, trust_env=False, headers=headers) as http:
        return http.get(path).raise_for_status()


def _session(found: list[dict[str, Any]], application: str) -> str:
    return str(next(one["id"] for one in found if one["application_name"] == application))
