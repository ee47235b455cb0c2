"""`python -m tests.rerun [OPTION…] [pgbench|random|restore …]`: run it, run it again on a clone, compare the dumps."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.rerun import workloads
from tests.rerun.stand import ACCESS, Stand

DATABASE = "rerun"
SHOWN = 20


def _pgbench(stand: Stand, chosen: argparse.Namespace) -> dict[str, Any]:
    return workloads.pgbench(stand, mode=chosen.mode, clients=chosen.clients, transactions=chosen.size)


def _random(stand: Stand, chosen: argparse.Namespace) -> dict[str, Any]:
    return asyncio.run(workloads.conversation(stand, seed=chosen.seed, people=chosen.clients, turns=chosen.size))


def _restore(stand: Stand, chosen: argparse.Namespace) -> dict[str, Any]:
    return workloads.restore(stand, rows=chosen.size, jobs=chosen.clients)


KINDS: Mapping[str, Callable[[Stand, argparse.Namespace], dict[str, Any]]] = {
    "pgbench": _pgbench,
    "random": _random,
    "restore": _restore,
}


def main() -> int:
    """Run what is asked for; returns 0 where nothing differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.rerun", description=__doc__)
    parser.add_argument("kind", nargs="*", metavar="KIND", help=f"one of {', '.join(KINDS)}; default: all")
    parser.add_argument("--rounds", type=int, default=1, help="how often (default: once), each with another seed")
    parser.add_argument("--size", type=int, default=200, help="transactions or turns (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=3, help="sessions at once (default: %(default)s)")
    parser.add_argument("--mode", default="simple", help="pgbench's protocol: simple, extended, prepared")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    if unknown := set(chosen.kind) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    good = True
    with _ready() as (cluster, proxy, folder):
        for _ in range(chosen.rounds):
            for kind in chosen.kind or KINDS:
                good = (
                    _once(kind, Stand(cluster=cluster, proxy=proxy, database=DATABASE, folder=folder), chosen) and good
                )
            chosen.seed += 1
    return 0 if good else 1


@contextmanager
def _ready() -> Iterator[tuple[Cluster, Proxy, Path]]:
    with tempfile.TemporaryDirectory(prefix="curfew-rerun-") as name:
        folder = Path(name)
        authority = Authority(folder)
        with Cluster(authority) as cluster:
            roles.install(cluster)
            proxy = Proxy(cluster=cluster, ca=authority, folder=folder / "proxy", target={"access": ACCESS})
            with proxy:
                yield cluster, proxy, folder


def _once(kind: str, stand: Stand, chosen: argparse.Namespace) -> bool:
    roles.create_database(stand.cluster, DATABASE)
    try:
        said = KINDS[kind](stand, chosen)
        one, other = stand.dumps()
    finally:
        stand.close()
        roles.drop_database(stand.cluster, DATABASE)
    equal = one == other
    for difference in said["differences"][:SHOWN]:
        print(json.dumps(difference))  # noqa: T201 a command speaks to its caller
    told = {name: said[name] for name in ("run", "differing", "left_out", "cut", "reordered")}
    print(f"{kind}, seed {chosen.seed}: {told}, lost {len(said['lost'])}, dumps {'equal' if equal else 'DIFFER'}")  # noqa: T201 as above
    return bool(said["equal"]) and equal


if __name__ == "__main__":
    sys.exit(main())
